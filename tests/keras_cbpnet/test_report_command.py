"""`report`: a run or a bundle becomes a page; what cannot be tested is refused before any work."""

from keras_cbpnet import cli, report


def refused(capsys, *arguments):
    code = cli.run(report.main, [*map(str, arguments)])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def test_what_cannot_be_tested_is_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text("{}")
    assert "--data" in refused(capsys, "bundle")
    assert "neither a bundle" in refused(capsys, tmp_path)
    assert "neither a bundle" in refused(capsys, tmp_path / "nothing")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]
