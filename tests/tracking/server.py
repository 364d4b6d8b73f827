"""MLflow's own server in this process, with a gate before it: for what a slow or hanging server must not do."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server


class Gate:
    """Lets requests through, or holds those whose method and path match until it is opened."""

    def __init__(self, app: Any) -> None:
        self._app, self._open = app, threading.Event()
        self._open.set()
        self._pattern = re.compile("")
        self.address = ""
        self.held: list[str] = []
        self.answered: list[str] = []  # of those that came since `hold`
        self._holds = 0

    def hold(self, pattern: str = "") -> None:
        """From now on."""
        self._pattern, self.held, self.answered = re.compile(pattern), [], []
        self._holds += 1
        self._open.clear()

    def open(self) -> None:
        """Let all through, the held ones too."""
        self._open.set()

    def __call__(self, environ: dict[str, Any], start: Any) -> Any:
        came, request = self._holds, f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        if not self._open.is_set() and self._pattern.search(request):
            self.held.append(request)
            self._open.wait(60)
        answer = self._app(environ, start)
        if came == self._holds:
            self.answered.append(request)
        return answer


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_arguments: object) -> None:
        """Keep quiet."""


@contextmanager
def serve_mlflow(root: Path) -> Iterator[Gate]:
    """Serve `root/mlflow.db` on a free port of this machine, files in `root/mlruns`, as MLFLOW_TRACKING_URI."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_MLFLOW_SERVER_FILE_STORE", f"sqlite:///{root / 'mlflow.db'}")
        patch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", "mlflow-artifacts:/")
        patch.setenv("_MLFLOW_SERVER_ARTIFACT_DESTINATION", str(root / "mlruns"))
        patch.setenv("_MLFLOW_SERVER_SERVE_ARTIFACTS", "true")
        from mlflow.server import app, handlers
        from mlflow.tracking._model_registry import utils as registry_utils
        from mlflow.tracking._tracking_service import utils as tracking_utils

        for store in ("_tracking_store", "_model_registry_store", "_artifact_repo"):
            patch.setattr(handlers, store, None)
        # opening its stores, the server makes them the default of its whole process: here that of the tests
        defaults = ((tracking_utils, "_tracking_uri"), (registry_utils, "_registry_uri"))
        for module, name in defaults:
            patch.setattr(module, name, None)
        for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
            patch.setenv(variable, "")
        handlers._get_tracking_store()
        handlers._get_model_registry_store()
        for module, name in defaults:
            patch.setattr(module, name, None)
        patch.delenv("MLFLOW_REGISTRY_URI")
        gate = Gate(app.wsgi_app)
        server = make_server("127.0.0.1", 0, gate, threaded=True, request_handler=_Quiet)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        gate.address = f"http://127.0.0.1:{server.server_port}"
        patch.setenv("MLFLOW_TRACKING_URI", gate.address)
        try:
            yield gate
        finally:
            gate.open()
            server.shutdown()
            server.server_close()
            thread.join()
