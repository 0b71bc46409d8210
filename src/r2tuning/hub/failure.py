"""Why the hub did not deliver, in words."""

from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled


def explain(error: Exception) -> str:
    """Half a sentence about what the hub's client raised: of HTTP, of Xet, of the system."""
    if isinstance(error, OfflineModeIsEnabled):
        return "offline mode is on (HF_HUB_OFFLINE)"
    if isinstance(error, HfHubHTTPError):
        return f"{constants.ENDPOINT} answered {error.response.status_code}"
    reason = (str(error).splitlines() or [""])[0]
    return f"{constants.ENDPOINT} did not deliver it ({reason or type(error).__name__})"
