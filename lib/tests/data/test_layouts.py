"""Each loader on small files of exactly the public layout."""

import gzip

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


def write(home, name, files):
    (home / name / "raw").mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        packed = gzip.compress(content.encode()) if file.endswith(".gz") else content.encode()
        (home / name / "raw" / file).write_bytes(packed)


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
    write(home, "ml-20m", GOOD["ml-20m"] | {"tags.csv": "not read"})
    data = datasets.load("ml-20m", 1)
    assert rows(data) == [("1", "29", 1112484676, 3.5), ("1", "2", 1112486027, 0.5), ("10", "2", 1094785740, 5.0)]
    city = "City of Lost Children, The (Cité des enfants perdus, La)"
    assert texts(data) == {
        "2": {"title": "Jumanji", "categories": "Adventure|Children|Fantasy", "year": "1995"},
        "29": {"title": city, "categories": "Adventure|Drama", "year": "1995"},
    }
    assert data.domain == "movies" and data.dated


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
    write(home, "beauty", GOOD["beauty"])
    data = datasets.load("beauty", 1)
    ids, time = ["0205616461", "0558925278", "B00000XXXX"], 1355443200
    assert rows(data) == [
        ("A39HTATAQ9V7YF", ids[0], 1369699200, 5.0),
        *(("A3JM6GV9MNOF9X", ids[1], time, 3.0), ("A3JM6GV9MNOF9X", ids[2], time + 100, 1.0)),
        *(("Z", ids[0], time + 200, 4.0), ("Z", ids[1], time + 300, 4.0)),
    ]
    nothing = {"description": "", "brand": "", "price": ""}
    cream = {"title": "Bio-Active Cream", "categories": "Skin Care|Face|Creams & Moisturizers|Fluids & Lotions"}
    stencils = {"title": "Eyebrow 'Stencils' é", "categories": "Skin Care|Tools", "brand": "Acme", "price": "20.88"}
    unlisted = {"title": "item B00000XXXX", "categories": ""}
    found = (cream | {"description": "As we age, it's drier."}, stencils, unlisted)
    assert texts(data) == {name: nothing | own for name, own in zip(ids, found, strict=True)}
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
    write(home, "kion", GOOD["kion"] | {"users_en.csv": "not read"})
    data = datasets.load("kion", 1)
    day = 1_620_604_800
    assert decoded(data)[:2] == [("176549", "1659", day), ("176549", "9506", day + 86_400)]
    assert decoded(data)[2:] == [("699317", "1659", day + 19 * 86_400)]
    assert data.events["value"].isna().all() and data.dated
    film, series = texts(data)["9506"], texts(data)["1659"]
    assert (film["title"], film["year"], film["categories"]) == ("Talk to her", "2002", "drama|foreign|detective")
    assert film["description"] == "Marco,\na writer" and series["year"] == ""


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
        (["<i>for</i> hair < 5 cm", "and > 2 cm, <3"], "for hair < 5 cm and > 2 cm, <3"),
        ("None", ""),
        (None, ""),
        (9.99, "9.99"),
    ],
)
def test_amazons_markup_is_read_as_people_read_it(raw, plain):
    _, title, *_, brand, _ = amazon.product(f"{{'asin': '0558925278', 'title': {raw!r}, 'brand': 'A &amp; B'}}\n")
    assert (title, brand) == (plain, "A & B")


def test_amazon_m2(home):
    write(home, "amazon-m2", GOOD["amazon-m2"])
    data = datasets.load("amazon-m2", 1)
    case, glass, cable = "UK/B09W9FND7K", "UK/B09JSPLN1M", "UK/B09M7GY217"
    expected = [("0", case, 0), ("0", glass, 1), ("0", cable, 2), ("1", "DE/B09JSPLN1M", 0), ("1", "DE/B09JSPLN1M", 1)]
    expected += [("2", id_, place) for place, id_ in enumerate([case, glass, case, "UK/B0BBBBBBBB", cable])]
    assert decoded(data) == expected
    assert texts(data)[case]["desc"] == "Fits\nall" and texts(data)["DE/B09JSPLN1M"]["title"] == "Glas"
    assert not data.dated and data.events["value"].isna().all()
    assert any(note.startswith("1 items (1 events, 10.0%) are not in the list") for note in data.notes)


def test_amazon_beauty_5core(home):
    items = 'B1,"Lacquer, 0.5 oz",OPI,Beauty > Makeup > Nails\n7806397051,,,Beauty\n'
    files = {"users.csv.gz": "user_id,n_interactions\nA1,2\n", "items.csv.gz": "item_id,title,brand,category\n" + items}
    files["interactions.csv.gz"] = "user_id,item_id,position\nA1,7806397051,0\nA1,B1,1\n"
    write(home, "amazon-beauty-5core", files)
    data = datasets.load("amazon-beauty-5core", 1)
    assert decoded(data) == [("A1", "7806397051", 0), ("A1", "B1", 1)]
    assert texts(data)["B1"] == {"title": "Lacquer, 0.5 oz", "brand": "OPI", "categories": "Makeup|Nails"}
    assert texts(data)["7806397051"] == {"title": "item 7806397051", "brand": "", "categories": ""}
    assert not data.dated


GOOD = {
    "ml-20m": {"ratings.csv": ML_RATINGS, "movies.csv": ML_MOVIES},
    "beauty": {"ratings_Beauty.csv": BEAUTY, "meta_Beauty.json.gz": META},
    "kion": {"interactions.csv": KION, "items_en.csv": KION_ITEMS},
    "amazon-m2": {"sessions_train.csv": SESSIONS, "products_train.csv": PRODUCTS},
}
NO_RECORDS = ["['asin']", "{'asin': ['x']}", "{'asin': 'B1', 'title': open('x')}"]
NO_RECORDS += [f"{{'asin': 'B1', 'categories': {paths}}}" for paths in ("[['B', 3]]", "['Beauty', 'Hair']")]
HOSTILE = [
    ("ratings.csv", ML_RATINGS.replace(",3.5,", ",5.5,"), "'5.5': a number from 0.5 to 5 is expected"),
    ("ratings.csv", ML_RATINGS + "1,3,4.0,1\n", "row 5, column \"movieId\": '3': not in movies.csv"),
    ("ratings_Beauty.csv", "User,Item,Rating,Time\n" + BEAUTY, "row 1, column \"rating\": 'Rating'"),
    ("ratings_Beauty.csv", "", "ratings_Beauty.csv"),
    *(("meta_Beauty.json.gz", META + line, "line 3: no record of the expected fields") for line in NO_RECORDS),
    ("meta_Beauty.json.gz", META + "{'title': 'x'}", "line 3: no record of the expected fields (KeyError('a"),
    ("meta_Beauty.json.gz", META + "{'asin': '0558925278'}", "'0558925278': the id stands here twice"),
    ("interactions.csv", KION.replace("2021-05-29", "29.05.2021"), "column \"last_watch_dt\": '29.05.2021'"),
    ("sessions_train.csv", SESSIONS.replace("['B09JSPLN1M']", "B0"), 'row 3, column "prev_items"'),
    ("sessions_train.csv", SESSIONS.replace("['B09JSPLN1M']", "[]"), "(1 such rows; this is the first)"),
    ("products_train.csv", PRODUCTS.replace(",DE,", ",UK,"), "the id stands here twice"),
]


@pytest.mark.parametrize(("file", "text", "message"), HOSTILE)
def test_hostile_lines_are_named(home, file, text, message):
    name = next(name for name, files in GOOD.items() if file in files)
    write(home, name, GOOD[name] | {file: text})
    with pytest.raises(UserError) as caught:
        datasets.load(name, 1)
    assert file in str(caught.value) and message in str(caught.value)


@pytest.mark.parametrize("name", GOOD)
def test_a_missing_file_says_where_it_can_be_had(home, name):
    with pytest.raises(UserError, match=r"\.(csv|json): no such file.* data/README\.md names"):
        datasets.load(name, 1)


@pytest.mark.parametrize(
    ("name", "write_files", "sizes"),
    [("ml-20m", synthetic.ml_20m, [50, 40, 2_000]), ("amazon-m2", synthetic.amazon_m2, [60, 50, 400])],
)
def test_the_synthetic_files_have_the_sizes_that_are_asked(home, name, write_files, sizes):
    write_files(home / name / "raw", *sizes)
    data = datasets.load(name, 1)
    dropped = int(data.notes[-4].split()[0]) if name == "ml-20m" else 0
    assert [len(data.users), len(data.items), len(data.events) + dropped] == sizes
