"""What tests of the benchmarks share."""

import pytest

from keras_cbpnet import cli


@pytest.fixture
def refused(capsys):
    """Run a command that must be refused: exit code 2 and one line, which is returned."""

    def refused(main, arguments):
        try:
            code = cli.run(main, arguments)
        except SystemExit as stop:  # of the argument parser
            code = stop.code
        error = capsys.readouterr().err
        assert code == 2
        assert error.count("\n") == 1
        return error

    return refused
