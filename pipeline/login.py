"""Where Kubeflow Pipelines is and how to log in: flags, then the environment, then what Kubernetes mounts in a pod."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from gwainet.errors import LoginError

# kfp's own places, as kfp.client reads them and as `kfp` the command names its variables (KFP_...)
ENDPOINT = ("KF_PIPELINES_ENDPOINT", "KFP_ENDPOINT")
PAGES = "KF_PIPELINES_UI_ENDPOINT"
NAMESPACE = "KFP_NAMESPACE"
TOKEN = "KFP_EXISTING_TOKEN"  # noqa: S105 - the variable's name
TOKEN_FILE = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105 - the variable's name
COOKIES = "KFP_COOKIES"  # kfp has no variable for cookies, only its context file and an argument

VOLUMES = Path("/var/run/secrets")
TOKEN_VOLUME = Path("kubeflow/pipelines/token")  # below VOLUMES: what kfp's documentation mounts, renewed by Kubernetes
POD_NAMESPACE = Path("kubernetes.io/serviceaccount/namespace")
CONTEXT = Path("~/.config/kfp/context.json")
IN_CLUSTER = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"

HOW_TO_LOG_IN = (
    "Set one of: --token-file FILE (or KF_PIPELINES_SA_TOKEN_PATH) for a service account's token, KFP_EXISTING_TOKEN "
    "for a bearer token, KFP_COOKIES='authservice_session=...' for the cookie of a browser that is logged in "
    "(docs/kubeflow.md, Submit)"
)


@dataclass(frozen=True)
class Login:
    """How to reach one Kubeflow Pipelines.

    Attributes:
        endpoint: of the API, without `/apis/...` and without a slash at the end.
        pages: base address of the web pages.
        namespace: of the user; empty: not said.
        credential: what proves who we are, in words, for messages.
        token_file: read again for every request, because Kubernetes renews it.
        token: a bearer token that stays the same.
        cookie: of a browser that is logged in.
        ca_cert: certificates to trust, in PEM; None: the usual ones.
    """

    endpoint: str
    pages: str
    namespace: str = ""
    credential: str = "no token and no cookie"
    token_file: Path | None = None
    token: str = field(default="", repr=False)
    cookie: str = field(default="", repr=False)
    ca_cert: Path | None = None

    def bearer(self) -> str:
        """The token to send now; empty: none.

        Raises:
            LoginError: the token's file cannot be read or is empty.
        """
        if self.token_file is None:
            return self.token
        try:
            token = self.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            raise LoginError(f"{self.credential} cannot be read ({reason}). {HOW_TO_LOG_IN}") from None
        if not token:
            raise LoginError(f"{self.credential} is empty. {HOW_TO_LOG_IN}")
        return token


def find_login(
    endpoint: str | None = None,
    namespace: str | None = None,
    token_file: Path | None = None,
    ca_cert: Path | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    volumes: Path = VOLUMES,
    context: Path = CONTEXT,
) -> Login:
    """Put a login together from flags (the arguments), the environment, kfp's context file and a pod's volumes.

    Raises:
        LoginError: there is no endpoint, or something given cannot be used; the message says what to set.
    """
    saved = _context(context.expanduser())
    address = endpoint or _first(environment, *ENDPOINT)
    if not address and (volumes / POD_NAMESPACE).is_file():
        address = IN_CLUSTER
    if not address:
        raise LoginError(
            "no endpoint of Kubeflow Pipelines is set. Give --endpoint URL or set KF_PIPELINES_ENDPOINT, for instance "
            "to http://localhost:8080 after `kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8080:80`, or to "
            "https://HOST/pipeline of a whole Kubeflow"
        )
    address = _base(address, "the endpoint")
    if ca_cert is not None and not ca_cert.is_file():
        raise LoginError(f"--ca-cert {ca_cert}: there is no such file")

    credential = "no token and no cookie"
    token = ""
    cookie = ""
    if token_file is not None:
        credential = f"the token of --token-file {token_file}"
    elif token := environment.get(TOKEN, "").strip():
        credential = f"the token of {TOKEN}"
    elif path := environment.get(TOKEN_FILE):
        token_file, credential = Path(path), f"the token of {TOKEN_FILE} ({path})"
    elif cookie := environment.get(COOKIES, "").strip():
        credential = f"the cookie of {COOKIES}"
    elif cookie := saved.get("client_authentication_cookie", ""):
        credential = f"the cookie of {context}"
    elif (mounted := volumes / TOKEN_VOLUME).is_file():
        token_file, credential = mounted, f"the service account's token ({mounted})"

    login = Login(
        endpoint=address,
        pages=_base(environment.get(PAGES) or address, PAGES),
        namespace=namespace or environment.get(NAMESPACE) or saved.get("namespace") or _text(volumes / POD_NAMESPACE),
        credential=credential,
        token_file=token_file,
        token=token,
        cookie=cookie,
        ca_cert=ca_cert,
    )
    login.bearer()  # a file that cannot be read is told before anything is compiled or sent
    return login


def _base(address: str, what: str) -> str:
    """An address without what a browser shows behind it (`/#/runs`)."""
    base = address.strip().partition("#")[0].rstrip("/")
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise LoginError(f"{what} must begin with http:// or https:// and name a host, not `{address}`")
    return base


def _first(environment: Mapping[str, str], *names: str) -> str:
    return next((value for name in names if (value := environment.get(name))), "")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def _context(path: Path) -> dict[str, str]:
    """What `kfp` the command saved for this user."""
    try:
        saved = json.loads(_text(path) or "{}")
    except ValueError:
        saved = None
    if not isinstance(saved, dict):
        raise LoginError(f"{path} is not what kfp writes there: correct it or remove it")
    return {name: value for name, value in saved.items() if isinstance(value, str)}
