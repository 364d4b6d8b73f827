"""`python -m gwainet.worker REQUEST.json`: one of several processes that train one model; torchrun starts it.

`gwainet.training.launch` starts workers on one machine; on several nodes torchrun runs on each of them.
"""

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from pydantic import ValidationError

from gwainet.errors import GwainetError, ParamsError
from gwainet.files import staged_file
from gwainet.params import check_params
from gwainet.progress import console, say
from gwainet.stages import STAGES
from gwainet.training import distributed
from gwainet.training.launch import Request, message_file

_PR_SET_PDEATHSIG = 1  # of Linux's prctl


def work(file: Path) -> None:
    """Run a request as the process that the environment says this is.

    Raises:
        GwainetError: any error a user can meet.
    """
    try:
        request = Request.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ParamsError(f"{file} cannot be read ({error.strerror}): all nodes must see it") from None
    except ValidationError as error:
        raise ParamsError(f"{file} is not a request: {error}") from None
    if Request.page(file).exists():  # this process was started again after all had been done
        return
    params = check_params(request.params, str(file))
    page = STAGES[request.stage].execute_here(params, request.variant, request.paths, request.store)
    if distributed.is_first():
        with staged_file(Request.page(file)) as partial:
            partial.write_text(page, encoding="utf-8")


def main(
    file: Annotated[Path, typer.Argument(help="A request (gwainet.training.launch.Request) in JSON.")],
    messages: Annotated[
        Path | None, typer.Option(help="Directory to write errors to, for who started the workers; default: print.")
    ] = None,
) -> None:
    """Train as one of several processes. To be started by torchrun."""
    if sys.platform == "linux":  # never train on alone, beside the stage's next attempt, when torchrun is killed
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # the first process closes its run when it is stopped. The others have nothing to close, and may just then wait for
    # it in a collective operation, where Python would not run a handler: they end at once
    signal.signal(signal.SIGTERM, _interrupt if distributed.is_first() else signal.SIG_DFL)
    signal.signal(signal.SIGINT, _interrupt if distributed.is_first() else signal.SIG_DFL)
    console.quiet = not distributed.is_first()
    try:
        work(file)
    except KeyboardInterrupt:
        os._exit(130)  # without waiting for threads of the group, whose other members are gone
    except GwainetError as error:
        if messages is None:
            console.quiet = False
            say(f"process {distributed.rank()}: {type(error).__name__}: {error}")
        else:
            said = {"kind": type(error).__name__, "message": str(error)}
            message_file(messages, distributed.rank()).write_text(json.dumps(said), encoding="utf-8")
        raise SystemExit(1) from None
    distributed.leave()


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    typer.run(main)
