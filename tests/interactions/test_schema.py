"""Columns are recognized in the headers of public data sets; two candidates are an error that names the way out."""

from __future__ import annotations

import pytest

from recsys_cl.config import IngestConfig
from recsys_cl.errors import LogError
from recsys_cl.interactions.schema import find_id, find_image, find_title, name_uniquely, recognize_columns

HEADERS = {
    "movielens": ("userId,movieId,rating,timestamp", "userId movieId timestamp - rating"),
    "recbole": (
        "user_id:token,item_id:token,rating:float,timestamp:float",
        "user_id:token item_id:token timestamp:float - rating:float",
    ),
    "amazon 2018": (
        "overall,verified,reviewTime,reviewerID,asin,style,reviewerName,reviewText,summary,unixReviewTime,vote,image",
        "reviewerID asin unixReviewTime - overall",
    ),
    "amazon 2023": (
        "rating,title,text,images,asin,parent_asin,user_id,timestamp,helpful_vote,verified_purchase",
        "user_id asin timestamp - rating",
    ),
    "retailrocket": ("timestamp,visitorid,event,itemid,transactionid", "visitorid itemid timestamp event -"),
    "yoochoose": ("sessionId,timestamp,itemId,category", "sessionId itemId timestamp - -"),
    "diginetica": ("sessionId,userId,itemId,timeframe,eventdate", "userId itemId eventdate - -"),
    "last.fm": ("userID,artistID,weight", "userID artistID - - weight"),
    "h&m": ("t_dat,customer_id,article_id,price,sales_channel_id", "customer_id article_id t_dat - -"),
    "steam": (
        "app_id,helpful,funny,date,is_recommended,hours,user_id,review_id",
        "user_id app_id date - -",
    ),
    "goodreads": ("user_id,book_id,is_read,rating,is_reviewed", "user_id book_id - - rating"),
    "yelp": ("review_id,user_id,business_id,stars,useful,funny,cool,text,date", "user_id business_id date - stars"),
    "kaggle shop": (
        "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session",
        "user_id product_id event_time event_type -",
    ),
    "kuairec": (
        "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio",
        "user_id video_id timestamp - -",
    ),
    "tmall": (
        "user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type",
        "user_id item_id time_stamp action_type -",
    ),
    "foursquare": (
        "userId,venueId,venueCategoryId,venueCategory,latitude,longitude,timezoneOffset,utcTimestamp",
        "userId venueId utcTimestamp - -",
    ),
    "index": (",user_id,item_id,ts", "user_id item_id ts - -"),
    "pandas index": ("Unnamed: 0,index,uid,sku,created_at,type", "uid sku created_at type -"),
    "book crossing": ("User-ID,ISBN,Book-Rating", "User-ID ISBN - - Book-Rating"),
    "bare": ("user,item", "user item - - -"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_the_headers_of_public_data_sets_are_understood(name: str) -> None:
    header, expected = HEADERS[name]
    chosen = recognize_columns(header.split(","), IngestConfig(), "log.csv")
    roles = ("user", "item", "time", "kind", "weight")
    assert [chosen.get(role, "-") for role in roles] == expected.split()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("header", "role"),
    [
        ("user_id,customer_id,item_id", "user"),
        ("user_id,track_id,movie_id", "item"),
        ("user_id,item_id,timestamp,event_time", "time"),
        ("user_id,item_id,event,action", "kind"),
        ("user_id,item_id,rating,stars", "weight"),
        ("user_id,user_id,item_id", "user"),
    ],
)
def test_two_candidates_name_both_and_the_option(header: str, role: str) -> None:
    with pytest.raises(LogError, match=f"could be the {role}.*--set ingest.{role}_column=") as caught:
        recognize_columns(header.split(","), IngestConfig(), "log.csv")
    assert "log.csv" in str(caught.value)


def test_a_configured_column_settles_what_is_ambiguous() -> None:
    header = ["user_id", "customer_id", "item_id"]
    assert recognize_columns(header, IngestConfig(user_column="customer_id"), "x")["user"] == "customer_id"
    assert recognize_columns(["a:token", "b:token"], IngestConfig(user_column="a", item_column="b:token"), "x") == {
        "user": "a:token",
        "item": "b:token",
    }


def test_a_column_set_for_one_role_is_no_candidate_for_another() -> None:
    chosen = recognize_columns(["a", "user_id", "member_id"], IngestConfig(item_column="user_id"), "x")
    assert chosen == {"user": "member_id", "item": "user_id"}


def test_missing_columns_are_listed() -> None:
    with pytest.raises(LogError, match=r"looks like the user.*'a', 'b'.*ingest.user_column"):
        recognize_columns(["a", "b"], IngestConfig(), "log.csv")
    with pytest.raises(LogError, match=r"no column 'c'.*'a', 'b'"):
        recognize_columns(["a", "b"], IngestConfig(user_column="c"), "log.csv")
    with pytest.raises(LogError, match="set for user and item"):
        recognize_columns(["a", "b"], IngestConfig(user_column="a", item_column="a"), "log.csv")


def test_columns_of_one_name_stay_apart() -> None:
    assert name_uniquely(["a", "b", "a", "a_2", "a"]) == ["a", "b", "a_3", "a_2", "a_4"]


def test_attribute_files_have_an_id_a_title_and_a_picture() -> None:
    header = ["movieId:token", "movie_title:token_seq", "title", "genres", "photo"]
    assert find_id(header, "item", [], "x") == 0
    assert find_id(["a", "id", "name"], "item", [], "x") == 1
    assert find_id(["product_id", "sku"], "item", ["sku"], "x") == 1
    assert find_title(header, range(1, 5)) == 2
    assert find_image(header, range(1, 5), "", "x") == 4
    assert find_image(header, range(1, 5), "genres", "x") == 3
    with pytest.raises(LogError, match=r"images\.column"):
        find_image(header, range(1, 5), "nope", "x")
    with pytest.raises(LogError, match="item's id"):
        find_id(["a", "b"], "item", [], "x")
