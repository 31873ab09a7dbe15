"""What all entry points share: options made from a config, and errors as one line.

Imported first by every entry point, it stays light: `--help` answers at once.
"""

import contextlib
import dataclasses
import errno
import importlib
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))


def fail_of_package(error: ModuleNotFoundError) -> NoReturn:
    """Ends the process with status 2 and one line where a package is missing.

    A Python that is not the project's may have any of them. A module of our own that is missing
    is a defect, which is raised.
    """
    package = (error.name or "").partition(".")[0]
    if package in ("", "bench"):
        raise error
    remedy = (
        "activate the project's .venv (made by 'make setup') or leave out '--env-manager local'"
    )
    if sys.argv[0].startswith("synapse-bench "):
        remedy = "install it again, by 'pip install .' in the project's folder"
    fail(
        step_name(),
        f"{sys.executable} must have the packages of requirements.txt, {package} is missing: "
        f"{remedy}",
    )


def step_name() -> str:
    """The step of this process: ``entrypoints/finetune.py`` or ``synapse-bench finetune``."""
    return Path(sys.argv[0]).stem.split()[-1]


def fail(step: str, message: str, then: str = "", *, mistyped: bool = False) -> NoReturn:
    """Ends the process with status 2 and one line, and what to type next below it.

    The run that mlflow made is named by the step and learns the reason; that of a command which
    was only typed wrongly is removed once mlflow has ended it.
    """
    line = " ".join(message.split())
    sys.stderr.write(f"error: {line}\n{then}")
    if "MLFLOW_RUN_ID" in os.environ:
        with contextlib.suppress(ModuleNotFoundError):
            from bench.tracking.opening import report_failure

            report_failure(step, line, mistyped=mistyped)
    sys.exit(2)


try:
    import click

    from bench.config.settings import StepConfig, typed_settings
    from bench.core.process import importing, named_plugins, set_up_process
    from bench.errors import BenchError
    from bench.words import AUTO
except ModuleNotFoundError as error:
    fail_of_package(error)


class AutoOr(click.ParamType):
    """A number, or ``auto``, which becomes None."""

    def __init__(self, number: click.ParamType) -> None:
        self.number = number
        self.name = f"{number.name}|{AUTO}"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Converts what the user typed."""
        if value is None or value == AUTO:
            return None
        return self.number.convert(value, param, ctx)


PARAM_TYPES: dict[Any, click.ParamType] = {
    str: click.STRING,
    int: click.INT,
    float: click.FLOAT,
    bool: click.BOOL,
}


def run_step(config_type: type[StepConfig], step: Callable[[Any], Any]) -> None:
    """Runs an entry point: the process's arguments become a config, which goes to the step.

    Args:
        config_type: The dataclass of the step's settings.
        step: Called with the config. Its docstring is the help text; heavy imports are inside it.
            It returns the id of its run where its command ends with more than it says itself.
    """
    name = step_name()
    typed: list[StepConfig] = []

    def callback(**values: Any) -> None:
        try:
            typed.append(config_type(**values))
        except BenchError as error:
            raise click.UsageError(str(error)) from error
        do_step(name, step, typed[0])

    set_up_process()
    try:
        if named_plugins():
            from bench.models.plugins import load_plugins

            load_plugins()
        command = click.Command(
            name,
            callback=callback,
            params=make_options(config_type, name),
            help=step.__doc__,
            context_settings={"show_default": True, "max_content_width": 100},
        )
        command.main(standalone_mode=False)
    except click.ClickException as error:
        fail(name, error.format_message(), say_next(name, typed), mistyped=True)
    except BenchError as error:
        fail(name, str(error), say_next(name, typed))
    except ModuleNotFoundError as error:
        fail_of_package(error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        fail(
            name,
            f"there must be space on the disk, none is left ({error}): free some and try again",
        )
    except (KeyboardInterrupt, click.Abort):
        sys.exit("interrupted: the same command goes on where it stopped")
    except Exception as error:
        fail_of_store(name, error)
        raise


def do_step(name: str, step: Callable[[Any], Any], config: StepConfig) -> None:
    """Does a step, which is not silent meanwhile: on a busy machine imports take half a minute."""
    from bench.core.progress import fill_silence, say_while

    with say_while(f"{name}: loading its packages", at_once=False), importing():
        importlib.import_module(f"bench.steps.{name}")
    with fill_silence(name):
        run_id = step(config)
        if run_id:
            from bench.steps.ending import end_command

            end_command(name, config, run_id)


def say_next(name: str, typed: list[StepConfig]) -> str:
    """What to type after an error: the same again, or help where it was no command yet."""
    from bench.core.commands import write_command, write_help

    if not typed:
        return f"all settings: {write_help(name)}\n"
    return f"once that is mended:\n  {write_command(name, typed_settings(typed[0]))}\n"


def fail_of_store(step: str, error: Exception) -> None:
    """Ends the process with one line if the database of the store failed, and not the step."""
    if "bench.tracking.opening" in sys.modules:
        from bench.tracking.opening import explain_failure

        if reason := explain_failure(error):
            fail(step, reason)


def make_options(config_type: type[StepConfig], step: str) -> list[click.Parameter]:
    """Makes one option per field: ``--pixel_size_nm`` as mlflow writes it, or with dashes."""
    hints = get_type_hints(config_type)
    options: list[click.Parameter] = []
    for field in sorted(dataclasses.fields(config_type), key=lambda field: field.name):
        names = {f"--{field.name}", f"--{field.name.replace('_', '-')}"}
        choices = field.metadata["choices"]
        options.append(
            click.Option(
                [field.name, *sorted(names)],
                type=param_type(hints[field.name]),
                default=AUTO if field.default is None else field.default,
                help=field.metadata["help"] + list_methods(field.name, step),
                metavar=f"[{'|'.join(choices)}]" if choices else None,
            )
        )
    return options


def list_methods(setting: str, step: str) -> str:
    """The methods that a setting of a step may name, plugins' among them; else nothing."""
    if setting not in ("method", "methods"):
        return ""
    from bench.methods import METHODS, names_of

    return f" Rows: {', '.join(names_of(step) or METHODS)}."


def param_type(hint: Any) -> click.ParamType:
    """The option type of a field's type."""
    if isinstance(hint, types.UnionType):
        (number,) = [part for part in hint.__args__ if part is not types.NoneType]
        return AutoOr(PARAM_TYPES[number])
    return PARAM_TYPES[hint]
