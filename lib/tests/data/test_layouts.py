"""Each loader on small files of exactly the public layout."""

import gzip

import pandas as pd
import pytest
import synthetic
from seqdistill import data as datasets
from seqdistill.data import amazon
from seqdistill.io import UserError
from test_datasets import decoded


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQDISTILL_DATA", str(tmp_path))
    return tmp_path


def write(home, name, **files):
    raw = home / name / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        path = raw / file.replace("__", ".")
        path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return raw


def rows(data):
    return [(*row, value) for row, value in zip(decoded(data), data.events["value"].tolist(), strict=True)]


def texts(data):
    return data.items.drop(columns="item").set_index("item_id").to_dict("index")


ML_RATINGS = "userId,movieId,rating,timestamp\n1,29,3.5,1112484676\n1,2,0.5,1112486027\n10,2,5.0,1094785740\n"
ML_MOVIES = (
    "movieId,title,genres\n2,Jumanji (1995),Adventure|Children|Fantasy\n"
    '29,"City of Lost Children, The (Cité des enfants perdus, La) (1995)",Adventure|Drama\n'
    "40697,Babylon 5,Sci-Fi\n126106,Beauty (2011) ,(no genres listed)\n"
)


def test_ml_20m(home):
    write(home, "ml-20m", ratings__csv=ML_RATINGS, movies__csv=ML_MOVIES, tags__csv="not read")
    data = datasets.load("ml-20m", 1)
    assert rows(data) == [("1", "29", 1112484676, 3.5), ("1", "2", 1112486027, 0.5), ("10", "2", 1094785740, 5.0)]
    city = {"title": "City of Lost Children, The (Cité des enfants perdus, La)", "categories": "Adventure|Drama"}
    assert texts(data) == {
        "2": {"title": "Jumanji", "categories": "Adventure|Children|Fantasy", "year": "1995"},
        "29": city | {"year": "1995"},
    }
    assert data.domain == "movies" and data.dated


def test_a_public_data_set_is_converted_from_a_folder_again(home):
    source = write(home, "elsewhere", ratings__csv=ML_RATINGS, movies__csv=ML_MOVIES)
    assert [len(datasets.convert("ml-20m", source).events) for _ in range(2)] == [3, 3]


BEAUTY = "A39HTATAQ9V7YF,0205616461,5.0,1369699200\nA3JM6GV9MNOF9X,0558925278,3.0,1355443200\nA3JM6GV9MNOF9X,B00000XXXX,1.0,1355443300\n"
BEAUTY += "Z,0205616461,4.0,1355443400\nZ,0558925278,4.0,1355443500\n"
META = (
    "{'asin': '0205616461', 'description': \"As we age, it's drier.\", 'title': 'Bio-Active Cream', 'imUrl': 'http://x/y.jpg', "
    "'salesRank': {'Health & Personal Care': 461765}, 'categories': [['Beauty', 'Skin Care', 'Face', 'Creams & Moisturizers', "
    "'Fluids & Lotions']]}\n"
    "{'asin': '0558925278', 'price': 20.88, 'brand': 'Acme', 'categories': [['Beauty', 'Skin Care'], ['Beauty', 'Tools']], "
    "'related': {'also_viewed': ['B00A']}, 'title': 'Eyebrow \\'Stencils\\' \\xe9'}\n"
)


def test_beauty(home):
    write(home, "beauty", ratings_Beauty__csv=BEAUTY, meta_Beauty__json__gz=META)
    data = datasets.load("beauty", 1)
    assert rows(data) == [
        ("A39HTATAQ9V7YF", "0205616461", 1369699200, 5.0),
        ("A3JM6GV9MNOF9X", "0558925278", 1355443200, 3.0),
        ("A3JM6GV9MNOF9X", "B00000XXXX", 1355443300, 1.0),
        ("Z", "0205616461", 1355443400, 4.0),
        ("Z", "0558925278", 1355443500, 4.0),
    ]
    nothing = {"description": "", "brand": "", "price": ""}
    cream = {"title": "Bio-Active Cream", "categories": "Skin Care|Face|Creams & Moisturizers|Fluids & Lotions"}
    stencils = {"title": "Eyebrow 'Stencils' é", "categories": "Skin Care|Tools", "brand": "Acme", "price": "20.88"}
    assert texts(data) == {
        "0205616461": nothing | cream | {"description": "As we age, it's drier."},
        "0558925278": nothing | stencils,
        "B00000XXXX": nothing | {"title": "item B00000XXXX", "categories": ""},
    }
    assert any(note.startswith("1 items (1 events, 20.0%) are not in the list") for note in data.notes)


KION = (
    "user_id,item_id,last_watch_dt,total_dur,watched_pct\n176549,9506,2021-05-11,4250,72.0\n"
    "699317,1659,2021-05-29,8317,100.0\n176549,1659,2021-05-10,10,\n"
)
KION_ITEMS = (
    "item_id,content_type,title,title_orig,release_year,genres,countries,for_kids,age_rating,studios,directors,actors,"
    "description,keywords\n"
    '9506,film,Talk to her,Hable con ella,2002.0,"drama, foreign, detective",Spain,,16.0,,Pedro Almodóvar,"A, B","Marco,\na writer",\n'
    "1659,series,Three Cats,,,cartoons,Russia,1.0,0.0,,,,,\n"
)


def test_kion(home):
    write(home, "kion", interactions__csv=KION, items_en__csv=KION_ITEMS, users_en__csv="not read")
    data = datasets.load("kion", 1)
    days = (pd.to_datetime(["2021-05-10", "2021-05-11", "2021-05-29"]) - pd.Timestamp(0)) // pd.Timedelta("1s")
    assert decoded(data) == [
        ("176549", "1659", days[0]),
        ("176549", "9506", days[1]),
        ("699317", "1659", days[2]),
    ]
    assert data.events["value"].isna().all() and data.dated
    first = texts(data)["9506"]
    assert (first["title"], first["year"], first["categories"]) == ("Talk to her", "2002", "drama|foreign|detective")
    assert first["description"] == "Marco,\na writer" and texts(data)["1659"]["year"] == ""


SESSIONS = (
    "prev_items,next_item,locale\n\"['B09W9FND7K' 'B09JSPLN1M']\",B09M7GY217,UK\n['B09JSPLN1M'],B09JSPLN1M,DE\n"
    "\"['B09W9FND7K' 'B09JSPLN1M' 'B09W9FND7K'\n 'B0BBBBBBBB']\",B09M7GY217,UK\n"
)
PRODUCTS = (
    "id,locale,title,price,brand,color,size,model,material,author,desc\n"
    'B09W9FND7K,UK,"Case, black",9.99,Acme,Black,,,,,"Fits\nall"\nB09JSPLN1M,UK,Glass,1.0,,,,,,,\n'
    "B09JSPLN1M,DE,Glas,1.2,,,,,,,\nB09M7GY217,UK,Cable,3.5,,,,,,,\nB09M7GY217,JP,ケーブル,350,,,,,,,\n"
)


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("Shampoo &amp; Conditioner", "Shampoo & Conditioner"),
        ("L&#39;Or&eacute;al &amp;amp; Co", "L'Oréal & Co"),
        ("<p>Soft<br/>skin</p> <a href='x'>here</a>", "Soft skin here"),
        ("<script>run()</script>&lt;b&gt;Bold&lt;/b&gt;", "Bold"),
        ("for hair < 5 cm and > 2 cm, <3", "for hair < 5 cm and > 2 cm, <3"),
        ("None", ""),
        (None, ""),
        (["<i>one</i>", "two"], "one two"),
        (9.99, "9.99"),
    ],
)
def test_amazons_markup_is_read_as_people_read_it(raw, plain):
    _, title, *_, brand, _ = amazon.product(f"{{'asin': '0558925278', 'title': {raw!r}, 'brand': 'A &amp; B'}}\n")
    assert (title, brand) == (plain, "A & B")


def test_amazon_m2(home):
    write(home, "amazon-m2", sessions_train__csv=SESSIONS, products_train__csv=PRODUCTS)
    data = datasets.load("amazon-m2", 1)
    case, glass, cable = "UK/B09W9FND7K", "UK/B09JSPLN1M", "UK/B09M7GY217"
    expected = [("0", case, 0), ("0", glass, 1), ("0", cable, 2), ("1", "DE/B09JSPLN1M", 0), ("1", "DE/B09JSPLN1M", 1)]
    expected += [("2", id_, place) for place, id_ in enumerate([case, glass, case, "UK/B0BBBBBBBB", cable])]
    assert decoded(data) == expected
    assert texts(data)[case]["desc"] == "Fits\nall" and texts(data)["DE/B09JSPLN1M"]["title"] == "Glas"
    assert not data.dated and data.events["value"].isna().all()
    assert any(note.startswith("1 items (1 events, 10.0%) are not in the list") for note in data.notes)


def test_amazon_beauty_5core(home):
    write(
        home,
        "amazon-beauty-5core",
        users__csv__gz="user_id,n_interactions\nA1,2\n",
        items__csv__gz='item_id,title,brand,category\nB1,"Lacquer, 0.5 oz",OPI,Beauty > Makeup > Nails\n7806397051,,,Beauty\n',
        interactions__csv__gz="user_id,item_id,position\nA1,7806397051,0\nA1,B1,1\n",
    )
    data = datasets.load("amazon-beauty-5core", 1)
    assert decoded(data) == [("A1", "7806397051", 0), ("A1", "B1", 1)]
    assert texts(data)["B1"] == {"title": "Lacquer, 0.5 oz", "brand": "OPI", "categories": "Makeup|Nails"}
    assert texts(data)["7806397051"] == {"title": "item 7806397051", "brand": "", "categories": ""}
    assert not data.dated


HOSTILE = [
    ("ml-20m", "ratings__csv", ML_RATINGS.replace(",3.5,", ",5.5,"), "'5.5': a number from 0.5 to 5 is expected"),
    ("ml-20m", "ratings__csv", ML_RATINGS + "1,3,4.0,1\n", "row 5, column \"movieId\": '3': not in movies.csv"),
    ("ml-20m", "ratings__csv", ML_RATINGS.replace(",", "::"), 'no column "userId"'),
    ("beauty", "ratings_Beauty__csv", "User,Item,Rating,Time\n" + BEAUTY, "row 1, column \"rating\": 'Rating'"),
    ("beauty", "ratings_Beauty__csv", "", "ratings_Beauty.csv"),
    ("beauty", "meta_Beauty__json__gz", META + "{'asin': 'B1', 'title': open('x')}\n", "line 3: no record"),
    ("beauty", "meta_Beauty__json__gz", META + "['asin']\n", "line 3: no record"),
    ("beauty", "meta_Beauty__json__gz", META + "{'asin': 'B1', 'categories': [['B', 3]]}\n", "line 3: no record"),
    (
        "beauty",
        "meta_Beauty__json__gz",
        META + "{'asin': 'B1', 'categories': ['Beauty', 'Hair']}\n",
        "line 3: no record",
    ),
    ("beauty", "meta_Beauty__json__gz", META + "{'asin': ['x']}\n", "line 3: no record"),
    (
        "beauty",
        "meta_Beauty__json__gz",
        META + "{'title': 'x'}\n",
        "line 3: no record of the expected fields (KeyError('a",
    ),
    ("beauty", "meta_Beauty__json__gz", META + "{'asin': '0558925278'}\n", "'0558925278': the id stands here twice"),
    ("kion", "interactions__csv", KION.replace("2021-05-29", "29.05.2021"), "column \"last_watch_dt\": '29.05.2021'"),
    ("kion", "items_en__csv", KION_ITEMS.replace("9506,", "1659,"), "row 3, column \"item_id\": '1659': the id stands"),
    ("amazon-m2", "sessions_train__csv", SESSIONS.replace("['B09JSPLN1M']", "B0"), 'row 3, column "prev_items"'),
    ("amazon-m2", "sessions_train__csv", SESSIONS.replace("['B09JSPLN1M']", "[]"), "(1 such rows; this is the first)"),
    ("amazon-m2", "products_train__csv", PRODUCTS.replace(",DE,", ",UK,"), "the id stands here twice"),
    ("amazon-m2", "products_train__csv", PRODUCTS.replace("title", "name", 1), 'no column "title"'),
]
GOOD = {
    "ml-20m": {"ratings__csv": ML_RATINGS, "movies__csv": ML_MOVIES},
    "beauty": {"ratings_Beauty__csv": BEAUTY, "meta_Beauty__json__gz": META},
    "kion": {"interactions__csv": KION, "items_en__csv": KION_ITEMS},
    "amazon-m2": {"sessions_train__csv": SESSIONS, "products_train__csv": PRODUCTS},
}


@pytest.mark.parametrize(("name", "file", "text", "message"), HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_lines_are_named(home, name, file, text, message):
    write(home, name, **GOOD[name] | {file: text})
    with pytest.raises(UserError) as caught:
        datasets.load(name, 1)
    assert file.replace("__", ".") in str(caught.value) and message in str(caught.value)


@pytest.mark.parametrize("name", GOOD)
def test_a_missing_file_says_where_it_can_be_had(home, name):
    with pytest.raises(UserError, match=r"\.(csv|json): no such file.* data/README\.md names"):
        datasets.load(name, 1)


def test_the_synthetic_files_have_the_sizes_that_are_asked(home):
    synthetic.ml_20m(home / "ml-20m" / "raw", 50, 40, 2_000)
    synthetic.amazon_m2(home / "amazon-m2" / "raw", 60, 50, 400)
    for name, sizes in {"ml-20m": [50, 40, 2_000], "amazon-m2": [60, 50, 400]}.items():
        data = datasets.load(name, 1)
        found = datasets.statistics(data.events)
        dropped = int(data.notes[-4].split()[0]) if name == "ml-20m" else 0
        assert [found["users"], found["items"], found["interactions"] + dropped] == sizes
