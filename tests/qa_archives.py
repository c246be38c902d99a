# SPDX-License-Identifier: GPL-3.0-or-later
"""Python's reader of model files, and that all that reads them agrees."""

from pathlib import Path

import pytest
from hostile.archives import BAD, GOOD

from deeprx_common.model_archive import ModelArchive, ModelFileError, read_model_file
from deeprx_common.shipped import shipped_models


@pytest.mark.parametrize("name", GOOD)
def test_good_files_are_accepted_and_written_out_anew(name):
    archive = ModelArchive(GOOD[name]())
    anew = archive.rewritten()
    again = ModelArchive(anew)
    assert again.records == archive.records and again.rewritten() == anew


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_line(name):
    with pytest.raises(ModelFileError) as error:
        ModelArchive(BAD[name]())
    assert str(error.value).isprintable()


@pytest.mark.parametrize("path", shipped_models())
def test_shipped_files_are_accepted(path):
    archive = read_model_file(path)
    assert archive.metadata["name"] == Path(path).stem
    assert archive.records.keys() >= {"data.pkl", "version", "extra/deeprx.json"}
