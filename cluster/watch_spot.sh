#!/usr/bin/env bash
# Waits for the cloud's notice that it will preempt this spot machine, then tells Ray (drsft/stages/preemption.py).
# Started on the workers of cluster/aws.yaml and cluster/gcp.yaml; on Kubernetes a pod's preStop hook does the same.
#
#   cluster/watch_spot.sh aws|gcp
set -euo pipefail

metadata=http://169.254.169.254
case ${1:-} in
  aws) # notice of two minutes; polled every five seconds, as AWS advises
    while sleep 5; do
      token=$(wget -q -T 2 -O - --method=PUT --header 'X-aws-ec2-metadata-token-ttl-seconds: 60' \
        "$metadata/latest/api/token") || continue
      wget -q -T 2 -O /dev/null --header "X-aws-ec2-metadata-token: $token" \
        "$metadata/latest/meta-data/spot/instance-action" && break
    done
    seconds=110
    ;;
  gcp) # notice of thirty seconds; the server responds when the value changes
    until [ "$(wget -q -T 0 -O - --header 'Metadata-Flavor: Google' \
      "$metadata/computeMetadata/v1/instance/preempted?wait_for_change=true")" = TRUE ]; do sleep 1; done
    seconds=25
    ;;
  *)
    echo "usage: cluster/watch_spot.sh aws|gcp" >&2
    exit 2
    ;;
esac
exec python -m drsft.stages.preemption --seconds "$seconds"
