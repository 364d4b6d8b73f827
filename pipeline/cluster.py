"""Where and how stages run on a cluster: `cluster.yaml`, typed and checked like params. Nothing here shapes a result.

No secret is ever written here: only the names of Kubernetes secrets and of the variables that they hold.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from gwainet.errors import ParamsError
from gwainet.params import NotNegative, Positive, PositiveFloat, S3Url, Section, explain, read_yaml

CLUSTER_FILE = Path("cluster.yaml")

Cpu = Annotated[str, Field(pattern=r"^([0-9]+(\.[0-9]+)?|[0-9]+m)$")]
Memory = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(E|Ei|P|Pi|T|Ti|G|Gi|M|Mi|K|Ki)?$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Toleration(Section):
    """A taint of nodes that pods may be put on."""

    key: str | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoExecute", "NoSchedule", "PreferNoSchedule"] | None = None


class Nodes(Section):
    """On which nodes a pod may run."""

    node_selector: dict[str, str] = Field({}, description="labels that the node must have")
    tolerations: tuple[Toleration, ...] = Field((), description="taints of the node that are accepted", strict=False)


class Gpu(Nodes):
    """GPUs, for the stages that ask for some."""

    resource: str = Field("nvidia.com/gpu", min_length=1, description="name of the device plugin's resource")
    tolerations: tuple[Toleration, ...] = Field(
        (Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule"),), strict=False
    )


class Secret(Section):
    """A Kubernetes secret whose values become environment variables; each key is named like its variable."""

    secret: Name
    variables: tuple[Variable, ...] = Field(min_length=1, strict=False)


class Mlflow(Secret):
    """The secret with MLflow's address, and its credentials where it wants some."""

    secret: Name = "gwainet-mlflow"  # noqa: S105  a name
    variables: tuple[Variable, ...] = Field(("MLFLOW_TRACKING_URI",), strict=False)

    @field_validator("variables")
    @classmethod
    def _has_address(cls, variables: tuple[str, ...]) -> tuple[str, ...]:
        if "MLFLOW_TRACKING_URI" not in variables:
            raise ValueError("MLFLOW_TRACKING_URI must be among them: without it runs are lost with their pods")
        return variables


class Volume(Section):
    """A persistent volume claim, or a folder of one; or a place in a bucket."""

    claim: Name | None
    sub_path: str = Field("", description="folder of the claim's volume; empty: all of it")
    s3: S3Url | None = Field(None, description="s3://bucket/prefix, in place of a claim; credentials come by `secrets`")

    @model_validator(mode="before")
    @classmethod
    def _one_place(cls, values: object) -> object:
        if not isinstance(values, dict) or values.get("s3") is None:
            return values
        of_a_claim = [name for name in ("claim", "sub_path", "version") if values.get(name)]
        if of_a_claim:
            raise ValueError(f"s3 stands alone, without {', '.join(of_a_claim)}, which a claim has")
        return {**values, **{name: None for name in ("claim", "version") if name in cls.model_fields}}

    @model_validator(mode="after")
    def _some_place(self) -> Self:
        if self.claim is None and self.s3 is None:
            raise ValueError("name a claim, or a bucket as s3")
        return self


class Source(Volume):
    """The photos that a user brings: what `data/source/` is on one machine, with a folder for each profile."""

    claim: Name | None = "gwainet-source"
    version: str | None = Field(
        "1", min_length=1, description="change it with the photos: Kubeflow's cache does not see what a volume holds"
    )


class Work(Volume):
    """Checkpoints: what `.gwainet/` is on one machine. Trainings run side by side, so it must be read-write-many."""

    claim: Name | None = "gwainet-work"


class Volumes(Section):
    """Persistent volume claims, or places in buckets."""

    source: Source = Source()
    work: Work = Work()


class Retries(Section):
    """How often a stage that failed is started again, and after how long."""

    count: NotNegative = 2
    backoff_seconds: NotNegative = Field(60, description="before the first retry")
    # Argo reads an integer here, and fails at run time on any other text
    backoff_factor: Positive = Field(2, description="each wait is so many times the one before")

    def seconds(self, attempt: float) -> int:
        """How long all attempts of at most so many seconds take with their waits, and a day in queues.

        Argo's `maxDuration`, which kfp calls the longest backoff, is not a wait: it counts from the first attempt's
        start, and once it is over nothing is tried again.
        """
        waits = sum(self.backoff_seconds * float(self.backoff_factor) ** retry for retry in range(self.count))
        return round((self.count + 1) * attempt + waits + 24 * 3600)


class Stage(Nodes):
    """What a stage's pods get."""

    cpu: Cpu = Field("2", description="CPUs requested")
    cpu_limit: Cpu | None = Field(None, description="the most CPUs; null: no limit")
    memory: Memory = Field("8Gi", description="memory requested")
    memory_limit: Memory | None = Field("16Gi", description="the most memory, over which the pod is killed")
    shared_memory: Memory | None = Field(
        None, description="size of /dev/shm, counted as memory; null: the runtime's own"
    )
    hours: PositiveFloat = Field(6.0, description="an attempt that takes longer is stopped")
    retries: Retries = Retries()
    caching: bool = Field(True, description="take the result of an equal execution in place of running")

    @property
    def dev_shm(self) -> str | None:
        """Size of /dev/shm; None: the container runtime's own."""
        return self.shared_memory


class InParts(Stage):
    """A stage that several pods can share, one after another or side by side, before one puts their parts together."""

    cpu: Cpu = "8"
    memory: Memory = "16Gi"
    memory_limit: Memory | None = "32Gi"
    parts: Annotated[int, Field(ge=1, le=1000)] = Field(
        1, description="pods that share the photos; all other settings are those of one, and of the one that merges"
    )


class NeverCached(Stage):
    """A stage with an effect outside its outputs."""

    caching: bool = False

    @field_validator("caching")
    @classmethod
    def _never(cls, caching: bool) -> bool:
        if caching:
            raise ValueError("registering is never cached: a cached run would register nothing")
        return caching


class GpuStage(Stage):
    """A stage that computes on a GPU if it has one."""

    gpus: NotNegative = Field(1, description="0: on the CPU")
    cpu: Cpu = "4"
    memory: Memory = "32Gi"
    memory_limit: Memory | None = "64Gi"


class Measuring(GpuStage):
    """A stage that one process computes."""

    @field_validator("gpus")
    @classmethod
    def _one(cls, gpus: int) -> int:
        if gpus > 1:
            raise ValueError("one process computes this stage, on one GPU: more would be paid for and stand idle")
        return gpus


class TrainingAlone(Measuring):
    """A training in one process, that continues from its checkpoint when it is started again."""

    hours: PositiveFloat = 96.0
    retries: Retries = Retries(count=10, backoff_factor=1)


class Training(GpuStage):
    """A stage that several processes can train, and that continues from its checkpoint when it is started again."""

    gpus: NotNegative = Field(1, description="of each node, a process for each; 0: on the CPU")
    nodes: Positive = Field(
        1, description="more than 1: a TrainJob of Kubeflow Trainer; all settings are those of a node"
    )
    hours: PositiveFloat = 96.0
    # preemption is normal, and costs the time since the last checkpoint; waits that grow would cost more
    retries: Retries = Retries(count=10, backoff_factor=1)

    @property
    def dev_shm(self) -> str | None:
        """Where processes share a node, NCCL wants more than the 64 MB that container runtimes give."""
        return self.shared_memory or (f"{self.gpus}Gi" if self.gpus > 1 else None)


class Stages(Section):
    """A section a stage."""

    fetch_faces: Stage = Stage()
    prepare_faces: InParts = InParts()
    check_faces: Stage = Stage()
    pretrain_inet: Training = Training()
    pretrain_wnet: Training = Training()
    train_psnr: Training = Training()
    train_adversarial: Training = Training()
    train_baselines: TrainingAlone = TrainingAlone()
    benchmark: Measuring = Measuring()
    register_model: NeverCached = NeverCached()


class Trainer(Section):
    """Kubeflow Trainer, for trainings on several nodes, and the pod that starts a job there and waits for it."""

    runtime: Name = "torch-distributed"
    kind: Literal["ClusterTrainingRuntime", "TrainingRuntime"] = Field(
        "ClusterTrainingRuntime", description="TrainingRuntime: one of the namespace's own"
    )
    cpu: Cpu = Field("1", description="CPUs requested for the pod that waits")
    memory: Memory = Field("2Gi", description="memory requested for it")
    memory_limit: Memory | None = Field("4Gi", description="the most memory for it")
    waiting_hours: PositiveFloat = Field(
        24.0, description="for which a job may wait for its nodes and copy its data, beyond the stage's hours"
    )


class ClusterSettings(Section):
    """All settings of a cluster."""

    image: str = Field(description="of the `Dockerfile`, with a tag of its own for each version of the code")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[Name, ...] = Field((), strict=False)
    mlflow: Mlflow | None = Field(Mlflow(), description="null: Kubeflow's own MLflow plugin sets the variables")
    secrets: tuple[Secret, ...] = Field((), description="more variables, such as an S3 store's", strict=False)
    volumes: Volumes = Volumes()
    gpu: Gpu = Gpu()
    trainer: Trainer = Trainer()
    stages: Stages = Stages()

    @field_validator("image")
    @classmethod
    def _versioned(cls, image: str) -> str:
        name, _, tag = image.rpartition("/")[2].partition(":")
        if "@sha256:" not in image and (not name or not tag or tag == "latest"):
            raise ValueError(
                "needs a tag other than `latest`, or a digest: Kubeflow's cache knows the code by the image's name"
            )
        return image

    @model_validator(mode="after")
    def _nodes_share_a_volume(self) -> Self:
        several = [name for name, stage in self.stages if isinstance(stage, Training) and stage.nodes > 1]
        if several and self.volumes.work.claim is None:
            raise ValueError(
                f"stages.{several[0]} has several nodes, which share files on a claim: volumes.work cannot be a bucket"
            )
        return self

    @model_validator(mode="after")
    def _variables_once(self) -> Self:
        names = [name for secret in (self.mlflow, *self.secrets) if secret for name in secret.variables]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the variable {name} is taken from two secrets")
        return self


def load_cluster(path: Path = CLUSTER_FILE) -> ClusterSettings:
    """Read `cluster.yaml` and check every value.

    Raises:
        ParamsError: lists every wrong setting with its full name and what was expected.
    """
    values = read_yaml(path, "--cluster", "`image` and sections with the cluster's settings")
    try:
        return ClusterSettings.model_validate(values)
    except ValidationError as error:
        raise ParamsError(f"{path}:\n{explain(error, ClusterSettings)}") from None
