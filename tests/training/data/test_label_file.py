import pytest

from tests.training.pictures import write_pictures
from training.data.image_folder import load_images
from training.data.label_file import read_label_file
from training.errors import TrainingError


@pytest.fixture
def pictures(tmp_path):
    write_pictures(tmp_path / "images/cat", 12, seed=1)
    write_pictures(tmp_path / "images/dog", 12, seed=2)
    return tmp_path


def rows(delimiter: str = ",") -> str:
    paths = [(f"images/{label}/{number}.png", label) for label in ("cat", "dog") for number in range(12)]
    return "".join(f"{path}{delimiter}{label}\n" for path, label in paths)


@pytest.mark.parametrize(
    "text",
    [
        "file,label\n" + rows(),
        "\ufeffFilename;Class\r\n" + rows(";").replace("\n", "\r\n"),
        "image_path\tcategory\n" + rows("\t").replace("/", "\\"),
    ],
    ids=["comma", "from Excel", "tabs and Windows paths"],
)
def test_a_csv_file_gives_the_same_data_as_class_folders(pictures, text):
    (pictures / "labels.csv").write_text(text)
    dataset = load_images(pictures / "labels.csv")
    assert dataset.labels == ("cat", "dog")
    assert dataset.sha256 == load_images(pictures / "images").sha256
    assert load_images(pictures).sha256 == dataset.sha256  # the folder's only description


def test_columns_may_stand_in_any_order_and_split_the_data(pictures):
    split = {0: "Validation", 1: "test"}
    lines = [
        f"{split.get(number, 'train')},x,{label},images/{label}/{number}.png\n"
        for label in ("cat", "dog")
        for number in range(12)
    ]
    (pictures / "labels.csv").write_text("split,width,label,file\n" + "".join(lines))
    dataset = load_images(pictures / "labels.csv")
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (20, 2, 2)


def test_missing_files_and_cells_are_counted(pictures):
    (pictures / "labels.csv").write_text("file,label\ngone.png,cat\nalso-gone.png,cat\n\nimages/cat/0.png,\n" + rows())
    listing = read_label_file(pictures / "labels.csv")
    assert len(listing.files) == 24
    assert listing.skipped.lines() == [
        f"skipped: listed files that do not exist (2), such as {pictures / 'gone.png'}",
        f"skipped: rows without a file or a label (1): line 5 of {pictures / 'labels.csv'}",
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a,b\n1,2\n", r"has the columns a, b; its first line must name one for the files \(file, .* and one for the"),
        (b"", "has the columns none"),
        (b"file,label\n", "lists no file that exists"),
        (b"file,label\nx.png,cat\n", r"paths must be relative to its folder; skipped: listed .* \(1\): .*x.png"),
        (b"file,label,split\nx.png,cat,holdout\n", "line 2: the split is 'holdout'; it must be one of train, training"),
        (b"file,label\nx.png,caf\xe9\n", "is not readable as CSV: .* save it as CSV in UTF-8"),
        (b'file,label\n"x.png,cat\n', "is not readable as CSV: unexpected end"),
    ],
    ids=["columns", "empty", "no rows", "no files", "split", "encoding", "quote"],
)
def test_other_files_are_refused_with_the_reason(tmp_path, data, message):
    (tmp_path / "labels.csv").write_bytes(data)
    with pytest.raises(TrainingError, match=message):
        read_label_file(tmp_path / "labels.csv")
