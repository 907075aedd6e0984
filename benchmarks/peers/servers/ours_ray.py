"""Our application under Ray Serve, in two replicas: `ours_ray.py PORT`."""

import sys
import time

import ray
from ray import serve

from app.cluster.serving import Scale, build_application

if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"port": int(sys.argv[1])})
    serve.run(build_application(Scale(min_replicas=2, max_replicas=2)), name="cifar10")
    while True:
        time.sleep(60)
