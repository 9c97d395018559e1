"""Files of an index: an error of the disk is one, and a hostile header exhausts nothing."""

from __future__ import annotations

import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest

from recsys_cl.config import IndexConfig
from recsys_cl.errors import StoreError
from recsys_cl.index.build import LEAST_TRAINED, build_index
from recsys_cl.index.structure import Index, read_index

WRITE = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from recsys_cl.config import IndexConfig
from recsys_cl.index.build import build_index
index, _ = build_index(np.ones((1000, 8), dtype=np.float32), IndexConfig(kind=sys.argv[2]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    index.write(Path(sys.argv[1]))
except OSError as error:
    print("refused", error.errno)
"""

READ = """
import resource, sys
from pathlib import Path
import numpy as np
from recsys_cl.errors import StoreError
from recsys_cl.index.facts import IndexFacts
from recsys_cl.index.structure import read_index
path, kind, n = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
data, outcomes = path.read_bytes(), set()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rng = np.random.default_rng(0)
for place in range(0, 200, 4):
    for value in (b"\\xff" * 8, b"\\x00" * 4 + b"\\x00\\x01" * 2, rng.bytes(8)):
        hostile = data[:place] + value + data[place + len(value):]
        path.write_bytes(hostile)
        try:
            read_index(path, IndexFacts(kind, n, 8, {}))
            outcomes.add("read")
        except StoreError:
            outcomes.add("refused")
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
print(sorted(outcomes), "grown", grown)
"""


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
@pytest.mark.parametrize("missing", [1, 100, 20_000])
def test_a_disk_that_refuses_the_last_bytes_is_an_error(tmp_path: Path, kind: str, missing: int) -> None:
    index, _ = build_index(np.ones((1000, 8), dtype=np.float32), IndexConfig(kind=kind))
    index.write(tmp_path / "whole")
    limit = (tmp_path / "whole").stat().st_size - missing
    path = tmp_path / "i"
    done = subprocess.run([sys.executable, "-c", WRITE, str(path), kind, str(limit)], capture_output=True, text=True)
    assert done.stdout.strip() == "refused 27", done.stderr
    assert not path.exists()


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw", "ivfpq"])
def test_a_hostile_header_exhausts_no_memory(tmp_path: Path, kind: str) -> None:
    n = 10_000 if kind == "ivfpq" else 500
    vectors = np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32)
    index, facts = build_index(vectors, IndexConfig(kind=kind))
    assert facts.kind == kind
    index.write(tmp_path / "i")
    command = [sys.executable, "-c", READ, str(tmp_path / "i"), kind, str(n)]

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))

    done = subprocess.run(command, capture_output=True, text=True, timeout=120, preexec_fn=bound)
    assert done.returncode == 0, done.stderr[-500:]
    assert "refused" in done.stdout
    assert int(done.stdout.split()[-1]) < 200, done.stdout


@pytest.mark.parametrize(
    ("kind", "forged"),
    [
        ("ivf", {"n_lists": 1 << 40, "n_probe": 1 << 40}),
        ("hnsw", {"ef_search": 1 << 40}),
        ("ivfpq", {"n_refined": 1 << 40}),
    ],
)
def test_forged_parameters_ask_for_no_more_than_there_is(kind: str, forged: dict[str, int]) -> None:
    vectors = np.random.default_rng(0).normal(size=(LEAST_TRAINED, 8)).astype(np.float32)
    index, facts = build_index(vectors, IndexConfig(kind=kind, ef_construction=20, hnsw_links=4))  # type: ignore[arg-type]
    assert facts.kind == kind
    hostile = Index(index.structure, replace(facts, parameters=facts.parameters | forged))
    rows = hostile.search(vectors[:3], 10).rows
    assert rows.shape == (3, 10)
    assert rows.min() >= 0


@pytest.mark.parametrize("kind", ["ivf", "ivfpq"])
@pytest.mark.parametrize("forged", [-1, 1, 10_000, 1 << 56])
def test_lists_of_rows_that_it_does_not_have_or_has_twice_are_refused(tmp_path: Path, kind: str, forged: int) -> None:
    n = 10_000 if kind == "ivfpq" else 500
    vectors = np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32)
    index, facts = build_index(vectors, IndexConfig(kind=kind))
    path = tmp_path / "i"
    index.write(path)
    read_index(path, facts)
    lists = faiss.extract_index_ivf(getattr(index.structure, "base_index", index.structure)).invlists
    number = next(number for number in range(lists.nlist) if lists.list_size(number) > 1)
    rows = faiss.rev_swig_ptr(lists.get_ids(number), lists.list_size(number)).copy()
    data, before = path.read_bytes(), rows.tobytes()
    assert data.count(before) == 1
    rows[0] = rows[1] if forged == 1 else forged
    path.write_bytes(data.replace(before, rows.tobytes()))
    with pytest.raises(StoreError, match="rows"):
        read_index(path, facts)


def test_lists_of_other_numbers_than_half_precision_are_refused(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).uniform(-0.5, 0.5, size=(500, 8)).astype(np.float32)
    index, facts = build_index(vectors, IndexConfig(kind="ivf"))
    index.write(tmp_path / "i")
    read_index(tmp_path / "i", facts)
    other = faiss.index_factory(8, f"IVF{facts.parameters['n_lists']},SQ8", faiss.METRIC_INNER_PRODUCT)
    other.train(vectors)
    other.add(vectors)
    faiss.write_index(other, str(tmp_path / "i"))
    with pytest.raises(StoreError, match="half precision"):
        read_index(tmp_path / "i", facts)
