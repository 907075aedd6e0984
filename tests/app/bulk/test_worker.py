"""A chunk of images becomes as many rows, each with a prediction or a code."""

import os
import threading
from pathlib import Path

import pytest

from app.bulk import worker as module
from app.bulk.errors import CODES, Rejection, rejection_from_error
from app.bulk.items import Item
from app.bulk.places import LocalPlace
from app.bulk.worker import BATCH, Worker
from app.prediction import predict_each
from app.settings import Settings
from app.versions.loading import choose
from model_store.errors import OutOfMemory
from model_store.images.decode import decode
from tests.app.conftest import png

LIMIT = 50_000


@pytest.fixture(scope="module")
def worker() -> Worker:
    return Worker(Settings(max_body_bytes=LIMIT))


def rows(worker: Worker, items: list[Item]) -> list[dict]:
    return worker.answer(items).rows.to_pylist()


def test_rows_have_the_predictions_of_the_service(worker):
    images = {f"{index}.png": png(index) for index in range(BATCH + 3)}
    answered = worker.answer([Item(name, content) for name, content in images.items()])
    loaded = choose(Settings()).loaded
    for row, (name, content) in zip(answered.rows.to_pylist(), images.items(), strict=True):
        (expected,) = predict_each(loaded.classifier, decode(content, loaded.manifest.preprocessing)[None])
        assert (row["id"], row["model"], row["model_version"]) == (name, "cifar10", str(loaded.manifest.version))
        shares = [row[f"probability_{label}"] for label in loaded.manifest.labels]
        assert shares == pytest.approx(expected.probabilities.tolist(), abs=2e-3)
        assert row["confidence"] == max(shares) == row[f"probability_{row['label']}"]
        assert row["verdict"] in ("confident", "unsure", "none_of_these") and 0 <= row["novelty"] <= 1
        assert (row["error_code"], row["error_detail"]) == (None, None)
    assert answered.ids == list(images) and not answered.errors and not answered.others


def test_bad_images_are_rows_with_their_code_between_the_others(worker, tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "large.png").write_bytes(png() + bytes(LIMIT))
    os.mkfifo(tmp_path / "pipe.png")
    contents = {
        "ok": png(),
        "unsupported_image": b"text",
        "unusable_image": png()[:200],
        "address_not_fetched": Rejection("address_not_fetched", "an address"),
        "too_large": LocalPlace(tmp_path / "large.png"),
        "unreadable": LocalPlace(tmp_path / "pipe.png"),
        "ok, from a file": LocalPlace(tmp_path / "a.png"),
    }
    answers = {row["id"]: row for row in rows(worker, [Item(*pair) for pair in contents.items()])}
    assert list(answers) == list(contents)
    for name, row in answers.items():
        assert row["error_code"] == (None if name.startswith("ok") else name)
        assert (row["label"] is None) == (row["error_code"] is not None) == (row["confidence"] is None)
        assert row["error_code"] is None or (row["error_code"] in CODES and row["error_detail"])
    assert "50,000 bytes, the limit that CIFAR10_MAX_BODY_BYTES sets" in answers["too_large"]["error_detail"]
    assert "not a regular file" in answers["unreadable"]["error_detail"]


def test_a_file_that_vanished_is_a_row(worker, tmp_path):
    (row,) = rows(worker, [Item("gone", LocalPlace(tmp_path / "gone.png"))])
    assert row["error_code"] == "unreadable" and "No such file or directory" in row["error_detail"]


@pytest.mark.parametrize("is_file", [True, False], ids=["file", "member"])
def test_what_need_not_be_an_image_has_no_row_unless_it_is_one(worker, tmp_path, is_file):
    items = []
    for name, content in {"text": b"text", "image": png(), "damaged": png()[:200]}.items():
        (tmp_path / name).write_bytes(content)
        items.append(Item(name, LocalPlace(tmp_path / name) if is_file else content, is_optional=True))
    answered = worker.answer(items)
    assert answered.rows.column("id").to_pylist() == ["image", "damaged"]
    assert answered.ids == ["text", "image", "damaged"] and answered.others == 1


def test_files_are_read_in_parallel_and_decoded_one_by_one(worker, tmp_path, monkeypatch):
    """Reads wait for each other; with fewer at once the barrier would break."""
    (tmp_path / "a.png").write_bytes(png())
    together, decoding = threading.Barrier(8, timeout=30), threading.Lock()
    opened, decoded = LocalPlace.open, module.decode

    def open_together(place: LocalPlace):
        together.wait()
        return opened(place)

    def decode_alone(*arguments):
        assert decoding.acquire(blocking=False)
        try:
            return decoded(*arguments)
        finally:
            decoding.release()

    monkeypatch.setattr(LocalPlace, "open", open_together)
    monkeypatch.setattr(module, "decode", decode_alone)
    answered = worker.answer([Item(str(index), LocalPlace(tmp_path / "a.png")) for index in range(16)])
    assert answered.rows.column("label").null_count == 0


def test_a_lack_of_memory_has_a_code_of_its_own():
    assert rejection_from_error(OutOfMemory("too little memory")) == Rejection("out_of_memory", "too little memory")


def test_every_code_is_documented_and_no_other_is():
    text = (Path(__file__).parents[3] / "docs/scale.md").read_text(encoding="utf-8")
    table = text.partition("| `error_code` |")[2].partition("\n\n")[0]
    assert {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")} == set(CODES)
