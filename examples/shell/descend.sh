#!/bin/sh
# Gradient descent on (x - 3)^2. The parameters come as environment variables, or from $LX_RUN_DIR/config.json;
# metrics are lines of JSON. No LightEx, no Python is needed in here.
set -eu
awk -v rate="$LX_HP_RATE" -v steps="$LX_HP_STEPS" 'BEGIN {
    for (step = 0; step < steps; step++) {
        x -= rate * 2 * (x - 3)
        printf "{\"step\":%d,\"metrics\":{\"loss\":%.6g}}\n", step, (x - 3) ^ 2
    }
}' >>"$LX_RUN_DIR/records.jsonl"
echo "descended $LX_HP_STEPS steps at rate $LX_HP_RATE"
