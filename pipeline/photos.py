"""Photos in a bucket, for a pipeline: where they lie, and which version of them it is for.

A pipeline with photos in a bucket is compiled for what the bucket holds then. The version stands among the params of
`fetch_faces`, so that Kubeflow's cache knows other photos from these, and a pod that finds other ones stops.
"""

from pathlib import Path

from gwainet.errors import StorageError
from gwainet.params import Params
from gwainet.progress import say
from gwainet.sources.bucket import look_for
from pipeline.cluster import ClusterSettings


def with_photos(params: Params, cluster: ClusterSettings) -> Params:
    """The params, with `fetch_faces.location` and its version where photos lie in a bucket.

    The params' own location comes before the cluster's, which holds a folder for each profile as `data/source/` does.

    Raises:
        StorageError: the bucket refuses, does not answer or lacks what the params name.
    """
    settings, bucket = params.fetch_faces, cluster.volumes.source.s3
    if settings.source == "drawn":
        return params
    if settings.location is None and bucket is not None:
        settings = settings.model_copy(update={"location": f"{bucket}/{params.profile}"})
    if settings.location is not None and settings.location_version is None:
        try:
            version = look_for(settings, Path("data/source") / params.profile).version
        except StorageError as error:
            raise StorageError(
                f"{error}\nThe pipeline is made for the photos that the bucket holds now. To compile without looking "
                "into it, set fetch_faces.location_version to what fetch_faces printed"
            ) from None
        settings = settings.model_copy(update={"location_version": version})
        say(f"{settings.location}: version {version} of the photos")
    return params.model_copy(update={"fetch_faces": settings})
