"""A file is written completely or not at all."""

import os
from pathlib import Path
from typing import BinaryIO

import pytest

from marsseg.errors import UsageError
from marsseg.files import check_new_file, write_durably, write_new_file


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"old", b"new"):
        write_durably(path, lambda file, content=content: file.write(content))
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("file", b"new")]


def test_one_that_cannot_be_filled_is_not_there(tmp_path: Path) -> None:
    def fill(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UsageError, match=r"result: cannot be written \(No space left on device\); nothing was changed"):
        write_new_file(tmp_path / "result", fill)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    process = os.fork()
    if process == 0:
        # The folders above are root's alone, and root may write everywhere.
        try:
            os.chdir(tmp_path)
            if os.geteuid() == 0:
                os.setresuid(65534, 65534, 65534)
            check_new_file(Path("result"))
        except UsageError as error:
            os._exit(3 if "expected a folder that can be written to" in str(error) else 4)
        finally:
            os._exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 3
