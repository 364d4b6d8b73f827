"""S3, or any store that speaks it: the only boto3.

`mirroring` brings a folder up to date with a bucket, `download` is how objects come, `checkpoints` keeps a training's
state in a bucket, `client` knows connections and what their errors mean.

Credentials, region and endpoint come from the usual AWS places alone (the environment, `~/.aws`, a role of the machine
or pod; `AWS_ENDPOINT_URL` for a store that is not Amazon's): no param and no message of ours ever holds a secret.
boto3 is imported when a bucket is opened: most runs need none.
"""

from gwainet.storage.checkpoints import BucketMirror, checkpoint_mirror
from gwainet.storage.mirroring import Listing, look, mirror, mirrored_before

__all__ = ["BucketMirror", "Listing", "checkpoint_mirror", "look", "mirror", "mirrored_before"]
