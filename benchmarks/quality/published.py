"""Published figures and protocols of the public splits. Most of those papers picked their epoch on the test set."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Data:
    """files: arguments of `recsys-cl benchmark`, below the folder of the data; k: of the metrics; published: model ->
    (recall@k, ndcg@k)."""

    files: dict[str, str]
    k: int
    published: dict[str, tuple[str, str]]


DATA = {
    "ml-1m-split": Data(
        {"--train": "train.txt", "--test": "test.txt"},
        20,
        {
            "LightGCN": (".2576", ".2427"),
            "UltraGCN": (".2787", ".2642"),
            "SimpleX": (".2802", ".2670"),
            "MF + BSL": (".2804", ".2681"),
            "MF + softmax": (".2809", ".2662"),
        },
    ),
    "gowalla": Data(
        {"--train": "train.txt", "--test": "test.txt"},
        20,
        {
            "LightGCN": (".1830", ".1554"),
            "UltraGCN": (".1862", ".1580"),
            "SimpleX": (".1872", ".1557"),
            "MF + BSL": (".1882", ".1584"),
            "LightGCN + BSL": (".1892", ".1590"),
        },
    ),
    "amazon-beauty": Data(
        {"--sequences": "Beauty.txt"},
        10,
        {
            "SASRec as first reported": (".0605", ".0318"),
            "TIGER": (".0648", ".0384"),
            "SASRec + sampled softmax": (".0921", ".0531"),
            "eSASRec": (".0928", ".0523"),
        },
    ),
}
