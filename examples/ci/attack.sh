#!/bin/sh
# Attack a network, and fail where its robust accuracy is below a floor or a check of the attack fails.
#
#   VICTIM=model.py:build WEIGHTS=model.safetensors DATA=images/ FLOOR=0.3 sh attack.sh
#
# After an interruption, MODE=--resume with the same values goes on where it stopped.
#
# Exit codes: 0 passed, 1 the gate or a check failed, 2 wrong input (the sentence is in robustness.json), 130 interrupted.
set -eu
OUT="${OUT:-robustness}"

ntklens attack --victim "$VICTIM" ${WEIGHTS:+--weights "$WEIGHTS"} --data "$DATA" \
  --surrogate "${SOURCES:-fc3,white-box}" --test "${TEST:-500}" --sample "${SAMPLE:-1000}" --eps "${EPS:-8/255}" \
  --fail-under "${FLOOR:-0.3}" --strict --junit "$OUT.xml" --out "$OUT" "${MODE:---overwrite}" --json > "$OUT.json"
