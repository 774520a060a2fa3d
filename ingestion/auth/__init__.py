"""How feeds prove who asks. Values that are declared with a feed; secrets are functions, read when a run needs them."""

from ingestion.auth.oauth import ClientCredentials, RefreshToken
from ingestion.auth.schemes import ApiKey, Basic, Bearer, Custom, Hmac, Secret
from ingestion.auth.sessions import Login
from ingestion.texts import Text

__all__ = [
    "ApiKey",
    "Basic",
    "Bearer",
    "ClientCredentials",
    "Custom",
    "Hmac",
    "Login",
    "RefreshToken",
    "Secret",
    "Text",
]
