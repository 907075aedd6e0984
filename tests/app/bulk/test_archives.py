"""Archives are read member by member, and hostile ones cost bounded memory."""

import io
import os
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from app.bulk.archives import MAX_HEADER_BYTES
from app.bulk.errors import Rejection
from app.bulk.items import Reading
from tests.app.bulk.conftest import outcomes, read, tar_file, zip_file

MODES = {"x.tar": "w", "x.tar.gz": "w:gz", "x.TGZ": "w:gz", "x.tar.bz2": "w:bz2", "x.tar.xz": "w:xz"}


@pytest.mark.parametrize("name", MODES)
def test_every_kind_of_tar_is_read_in_order(tmp_path, photos, name):
    assert outcomes(read(tar_file(tmp_path / name, photos, MODES[name]))) == photos


def test_a_zip_is_read_in_the_order_of_its_index(tmp_path, photos):
    assert outcomes(read(zip_file(tmp_path / "x.zip", photos))) == photos


@pytest.mark.parametrize("pack", [zip_file, tar_file])
def test_names_that_lead_elsewhere_are_mere_ids(tmp_path, photos, pack):
    archive = pack(
        tmp_path / ("x.zip" if pack is zip_file else "x.tar"), dict.fromkeys(["/etc/a.png", "../../b.png"], b"")
    )
    before = sorted(tmp_path.parent.rglob("*"))
    assert [item.id for item in read(archive)] == [f"{archive}//etc/a.png", f"{archive}/../../b.png"]
    assert sorted(tmp_path.parent.rglob("*")) == before


@pytest.mark.parametrize("pack", [zip_file, tar_file])
def test_hidden_members_are_skipped_and_others_may_be_anything(tmp_path, photos, pack):
    files = {"._1.png": b"", "__MACOSX/1.png": b"", "a/.x/1.png": b"", "a.json": b"{}", "a.png": photos["0.png"]}
    items = read(pack(tmp_path / ("x.zip" if pack is zip_file else "x.tar"), files))
    assert [(Path(item.id).name, item.is_optional) for item in items] == [("a.json", True), ("a.png", False)]


@pytest.mark.parametrize("pack", [zip_file, tar_file])
def test_a_member_that_unpacks_to_more_than_the_limit_is_rejected(tmp_path, photos, pack):
    name = "x.zip" if pack is zip_file else "x.tar.gz"
    files = {"bomb.png": bytes(50_000_000), "fine.png": photos["0.png"]}
    archive = zip_file(tmp_path / name, files) if pack is zip_file else tar_file(tmp_path / name, files, "w:gz")
    assert archive.stat().st_size < 100_000
    found = read(archive, reading=Reading(1_000_000))
    assert found[0].content == Rejection(
        "too_large", "the image has more than 1,000,000 bytes, the limit that CIFAR10_MAX_BODY_BYTES sets"
    )
    assert found[1].content == photos["0.png"]


def test_an_encrypted_and_a_damaged_member_spoil_no_other(tmp_path, photos):
    archive = zip_file(tmp_path / "x.zip", photos)
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as opened:
        first, second = opened.infolist()[:2]
    content[first.header_offset + 60] ^= 255  # inside its data
    at = content.index(b"PK\1\2" + bytes([20, 3]), content.index(b"PK\1\2") + 4)
    for flags in (second.header_offset + 6, at + 8):
        content[flags] |= 1  # encrypted
    archive.write_bytes(content)
    found = outcomes(read(archive))
    assert found == photos | {"0.png": "unreadable", "1.png": "unreadable"}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("name", MODES)
def test_a_truncated_tar_gives_what_is_whole_and_a_row_for_the_rest(tmp_path, name, share):
    noise = {f"{index}.png": os.urandom(3_000) for index in range(20)}
    archive = tar_file(tmp_path / name, noise, MODES[name])
    archive.write_bytes(archive.read_bytes()[: int(archive.stat().st_size * share)])
    found = read(archive)
    assert found[-1].id == str(archive) and found[-1].content.code == "damaged_source"
    whole = [item for item in found if isinstance(item.content, bytes)]
    assert all(item.content == noise[Path(item.id).name] for item in whole)
    assert {item.content.code for item in found[len(whole) : -1]} <= {"unreadable"} and len(found) - len(whole) <= 2
    assert whole or share == 0.1 or name.endswith("bz2")  # which has one block


def test_a_tar_cut_between_members_is_not_taken_for_a_whole_one(tmp_path, photos):
    archive = tar_file(tmp_path / "x.tar", photos)
    archive.write_bytes(archive.read_bytes().rstrip(b"\0")[: 2 * 1024 * 2])
    assert read(archive)[-1].content.code == "damaged_source"


def test_a_tar_with_a_damaged_header_is_not_taken_for_one_that_ends(tmp_path, photos):
    archive = tar_file(tmp_path / "x.tar", dict.fromkeys(photos, b""))
    content = bytearray(archive.read_bytes())
    content[2 * 512 + 150] ^= 255  # the checksum of the third header
    archive.write_bytes(content)
    found = read(archive)
    assert [item.id for item in found] == [f"{archive}/0.png", f"{archive}/1.png", str(archive)]


def test_a_tar_header_that_would_fill_the_memory_is_refused(tmp_path):
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 100 * MAX_HEADER_BYTES
    (tmp_path / "x.tar").write_bytes(long_name.tobuf() + bytes(10_000))
    (item,) = read(tmp_path / "x.tar")
    assert "a header has 100,00" in item.content.detail and "the limit is 1,000,000" in item.content.detail


def test_links_and_devices_in_a_tar_are_left_out(tmp_path, photos):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            member = tarfile.TarInfo(f"{kind}.png")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        member = tarfile.TarInfo("fine.png")
        member.size = len(photos["0.png"])
        archive.addfile(member, io.BytesIO(photos["0.png"]))
    assert outcomes(read(tmp_path / "x.tar")) == {"fine.png": photos["0.png"]}


def test_a_zip_that_lies_about_sizes_is_bounded(tmp_path):
    archive = zip_file(tmp_path / "x.zip", {"a.png": bytes(5_000_000)})
    content = archive.read_bytes()
    size = (5_000_000).to_bytes(4, "little")
    assert content.count(size) == 2 and zlib.crc32(bytes(5_000_000))
    archive.write_bytes(content.replace(size, (10).to_bytes(4, "little")))
    (item,) = read(archive, reading=Reading(1_000))
    assert isinstance(item.content, Rejection) or len(item.content) <= 1_000
