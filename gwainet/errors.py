"""The errors a user can meet; each says what is wrong and what to do.

::

    GwainetError
      ParamsError     a param is unknown, mistyped or out of range
      SourceError     what the user brought is missing, damaged or not what its name says
      DataError       prepared faces are missing, damaged or do not fit the params
      ContractError   the data contract does not hold
      CheckpointError weights or a checkpoint do not fit the networks
      TrainingError   a training went wrong: too little memory, a step that cannot be captured
        DivergedError   its numbers did: not finite, or a critic that exploded
      StorageError    an S3 bucket refused something, does not answer or does not hold what it should
      TrackingError   the tracking server refused or lost something
      ExtraError      an optional part of the installation is missing
      PipelineError   a run of the pipeline failed
      ClusterError    Kubeflow refused something or does not answer
        LoginError    Kubeflow's address or a login is missing or refused
        UnavailableError  its server does not answer, or fails
        NotFoundError     its server knows no such thing
        ConflictError     there is one of that name already
"""


class GwainetError(Exception):
    """Base of all errors that the command line prints as one message, without a traceback."""


class ParamsError(GwainetError):
    """A param is unknown, mistyped or out of range."""


class SourceError(GwainetError):
    """What the user brought is missing, damaged or not what its name says."""


class DataError(GwainetError):
    """Prepared faces are missing, damaged or do not fit the params."""


class ContractError(GwainetError):
    """The data contract does not hold."""


class CheckpointError(GwainetError):
    """Weights or a checkpoint do not fit the networks."""


class TrainingError(GwainetError):
    """A training went wrong: too little memory, a step that cannot be captured."""


class DivergedError(TrainingError):
    """A training's numbers went wrong: not finite, or a critic that exploded. With the same params they would again."""


class StorageError(GwainetError):
    """An S3 bucket refused something, does not answer or does not hold what it should."""


class TrackingError(GwainetError):
    """The tracking server refused or lost something."""


class ExtraError(GwainetError):
    """An optional part of the installation (an extra of pyproject.toml) is missing."""


class PipelineError(GwainetError):
    """A run of the pipeline failed."""


class ClusterError(GwainetError):
    """Kubeflow refused something or does not answer."""


class LoginError(ClusterError):
    """Kubeflow's address or a login is missing or refused."""


class UnavailableError(ClusterError):
    """The server does not answer, or fails: asking again may help."""


class NotFoundError(ClusterError):
    """The server knows no such thing."""


class ConflictError(ClusterError):
    """There is one of that name already."""
