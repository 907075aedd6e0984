"""What the documents say exists does, and what exists is documented."""

import json
import re
from pathlib import Path

import pytest

from app.errors import CODES
from app.main import create_app
from app.prediction import predict_each, prediction_json
from app.settings import Settings, variables
from app.versions.loading import choose
from model_store.images.decode import decode
from training.recipes import RECIPES

ROOT = Path(__file__).parent.parent


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_setting_is_documented_with_its_default_and_no_other_is():
    rows = dict(re.findall(r"^\| `([A-Z0-9_]+)` \| (.+?) \|", text("docs/configuration.md"), re.MULTILINE))
    assert set(rows) == set(variables().values())
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, bool):
            assert rows[variables()[name]] == f"`{field.default}`".lower()
        elif isinstance(field.default, int | float):
            assert rows[variables()[name]] == f"`{field.default:g}`".replace("3.2e+07", "32000000")


def test_every_error_code_is_documented_with_its_status_and_no_other_is():
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", text("docs/api.md"), re.MULTILINE)
    assert {code: int(status) for code, status in rows} == {code: status for code, (status, _) in CODES.items()}


def test_every_endpoint_is_documented_and_no_other_is(tmp_path):
    documented = set(re.findall(r"`(?:GET|POST) (/[\w/{}]*)`", text("docs/api.md").split("\n\n")[2]))
    routes = set(create_app(Settings(store=tmp_path)).openapi()["paths"]) | {"/", "/docs"}
    assert documented == routes


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_its_result_documented(name):
    assert f"`{name}`" in text("docs/training.md")


def test_operations_names_settings_addresses_and_jobs_that_exist(tmp_path):
    operations, paths = text("docs/operations.md"), set(create_app(Settings(store=tmp_path)).openapi()["paths"])
    asked = set(re.findall(r"http://127\.0\.0\.1:8000(/[\w/]+)", operations))
    assert "/metrics" in asked and asked <= paths
    settings = set(re.findall(r"CIFAR10_[A-Z_]+", operations))
    assert "CIFAR10_WORKERS" in settings and settings <= set(variables().values())
    jobs = set(re.findall(r"run --rm training (\w+)", operations))
    assert jobs == {"activate", "versions"} and all(f'"{job}"' in text("training/commands/store.py") for job in jobs)


def test_the_tree_in_the_architecture_is_the_tree():
    tree = text("docs/architecture.md").split("## Every file")[1].split("```")[1]
    files, folders = set(), []
    for line in tree.strip().splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        folders[depth:] = [name] if name.endswith("/") else []
        if name.endswith(".py"):
            files.add("".join(folders) + name)
    assert files == {
        path.relative_to(ROOT).as_posix()
        for package in ("app", "model_store", "training")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }


def test_every_folder_in_the_readme_is_there():
    tree = text("README.md").split("## Where things are")[1].split("```")[1]
    folders = [line.split()[0] for line in tree.strip().splitlines()]
    assert len(folders) > 5 and all((ROOT / folder).is_dir() for folder in folders)


def test_no_document_names_a_file_that_is_not_there():
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        prose = re.sub(r"^    .*$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE)  # without code
        for target in re.findall(r"\]\(([^)#:]+)\)", prose):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_every_test_that_a_document_names_is_there():
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text("docs/responsible-use.md"))
    assert len(named) > 10
    for path, name in named:
        assert not name or f"def {name}(" in text(path), f"{path} has no {name}"
        assert (ROOT / path).exists(), path


def test_the_readmes_answer_is_the_one_the_service_gives(tmp_path):
    """Compared on what does not depend on the processor's precision."""
    printed = json.loads(text("README.md").split("```json")[1].split("```")[0])
    loaded = choose(Settings()).loaded
    image = decode((ROOT / "docs/cat.png").read_bytes(), loaded.manifest.preprocessing)
    given = prediction_json(loaded.manifest, predict_each(loaded.classifier, image[None])[0], 3)
    assert (printed["label"], printed["model"]) == (given["label"], given["model"])
    assert list(printed["probabilities"]) == list(given["probabilities"])
    assert printed["confidence"] == pytest.approx(given["confidence"], abs=0.02)
