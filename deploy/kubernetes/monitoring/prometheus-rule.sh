#!/bin/sh
# Remakes prometheus-rule.yaml of deploy/prometheus/dnsvip.rules.yml, which is the original.
set -eu
cd "$(dirname "$0")"
cat > prometheus-rule.yaml <<END
# Made by prometheus-rule.sh; do not edit.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: dnsvip
  namespace: dnsvip
  labels: {app.kubernetes.io/part-of: dnsvip}
spec:
$(sed -e 's/^./  &/' ../../prometheus/dnsvip.rules.yml)
END
