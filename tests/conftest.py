"""What every test shares: quiet and offline libraries, and how hard Hypothesis tries."""

import os

from hypothesis import settings

# Before anything imports them; `make` sets the same, this is for a plain `pytest`. Child processes inherit it.
for name, value in {
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}.items():
    os.environ.setdefault(name, value)

# The same examples every time, so that a failure is the change's and not the day's. No deadline: a busy machine is no
# bug. `make soak` looks further, elsewhere each time.
settings.register_profile("test", deadline=None, derandomize=True, max_examples=100)
settings.register_profile("soak", deadline=None, derandomize=False, max_examples=5000, print_blob=True)
settings.load_profile("test")
