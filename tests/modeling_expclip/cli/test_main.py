"""What holds for every subcommand: help, versions, flags, and that none of them waits for torch."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from modeling_expclip.cli.main import _parser, main


def test_versions(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    expected = ", ".join(f"{name} {version(name)}" for name in ("expclip", "transformers", "torch"))
    assert capsys.readouterr().out.split() == expected.split()


def flags(parser) -> list:
    (commands,) = (action for action in parser._actions if hasattr(action, "choices") and action.dest == "command")
    return [(name, action) for name, command in commands.choices.items() for action in command._actions]


def test_every_flag_has_its_help():
    found = flags(_parser())
    assert len(found) > 30
    assert [f"{name} {action.dest}" for name, action in found if not action.help] == []


def test_output_is_the_same_everywhere():
    outputs = {name: action for name, action in flags(_parser()) if action.dest == "output"}
    assert {"classify", "convert", "merge", "export"} <= set(outputs)
    assert all("appears whole; folders above it are made" in action.help for action in outputs.values())
    overwriting = {name for name, action in flags(_parser()) if action.dest == "overwrite"}
    assert set(outputs) == overwriting


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["classify", "--help"], ["merge"]])
def test_help_and_wrong_calls_do_not_wait_for_torch(arguments):
    code = f"import sys; from modeling_expclip.cli.main import main\ntry: main({arguments})\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'transformers', 'numpy', 'PIL', 'pyarrow'} & set(sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert {"--help": "classify", "--version": "expclip"}.get(arguments[0], "") in run.stdout
