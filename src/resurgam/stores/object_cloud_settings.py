"""The cloud services' own settings, from their own variables and, for S3, the files of AWS's tools.

The client panics or refuses at a variable that it does not know, so that what passes is a list.
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from pathlib import Path

from resurgam.errors import SettingsError

_S3 = """ACCESS_KEY_ID SECRET_ACCESS_KEY SESSION_TOKEN REGION DEFAULT_REGION ENDPOINT ENDPOINT_URL ENDPOINT_URL_S3
    CHECKSUM_ALGORITHM CONTAINER_CREDENTIALS_RELATIVE_URI CONTAINER_CREDENTIALS_FULL_URI
    CONTAINER_AUTHORIZATION_TOKEN_FILE METADATA_ENDPOINT REQUEST_PAYER ROLE_ARN ROLE_SESSION_NAME
    SERVER_SIDE_ENCRYPTION SSE_KMS_KEY_ID VIRTUAL_HOSTED_STYLE_REQUEST WEB_IDENTITY_TOKEN_FILE""".split()  # noqa: SIM905
_GCS = "SERVICE_ACCOUNT SERVICE_ACCOUNT_PATH SERVICE_ACCOUNT_KEY BASE_URL BEARER_TOKEN APPLICATION_CREDENTIALS".split()  # noqa: SIM905
_AZURE = """STORAGE_ACCOUNT_NAME STORAGE_ACCOUNT_KEY STORAGE_ACCESS_KEY STORAGE_CLIENT_ID CLIENT_ID
    STORAGE_CLIENT_SECRET CLIENT_SECRET STORAGE_TENANT_ID TENANT_ID STORAGE_SAS_KEY STORAGE_SAS_TOKEN STORAGE_TOKEN
    STORAGE_ENDPOINT ENDPOINT FEDERATED_TOKEN_FILE AUTHORITY_HOST MSI_ENDPOINT IDENTITY_ENDPOINT
    USE_AZURE_CLI""".split()  # noqa: SIM905
# Of the two files, by the names in them, what goes where.
_IN_CREDENTIALS = {
    "aws_access_key_id": "aws_access_key_id",
    "aws_secret_access_key": "aws_secret_access_key",
    "aws_session_token": "aws_session_token",
}
_IN_CONFIG = {"region": "aws_region", "endpoint_url": "aws_endpoint_url", **_IN_CREDENTIALS}


def s3_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """AWS_*; without a key in them, also the profile AWS_PROFILE (or `default`) of the files in ~/.aws."""
    own = _chosen("AWS_", _S3, environment)
    if "aws_access_key_id" in own or not (home := environment.get("HOME")):
        return own
    profile = environment.get("AWS_PROFILE") or "default"
    aws = Path(home) / ".aws"
    config = Path(environment.get("AWS_CONFIG_FILE") or aws / "config")
    credentials = Path(environment.get("AWS_SHARED_CREDENTIALS_FILE") or aws / "credentials")
    section = profile if profile == "default" else f"profile {profile}"
    return {**_of_file(config, section, _IN_CONFIG), **_of_file(credentials, profile, _IN_CREDENTIALS), **own}


def s3_endpoint(environment: Mapping[str, str]) -> str:
    """The address of an S3 server that is not AWS's; "" for AWS."""
    own = s3_variables(environment)
    return own.get("aws_endpoint_url_s3") or own.get("aws_endpoint_url") or own.get("aws_endpoint") or ""


def gcs_variables(environment: Mapping[str, str]) -> dict[str, str]:
    return _chosen("GOOGLE_", _GCS, environment)


def azure_variables(environment: Mapping[str, str]) -> dict[str, str]:
    return _chosen("AZURE_", _AZURE, environment)


def sends_in_plain(environment: Mapping[str, str]) -> bool:
    """Whether the user named a server by an http:// address."""
    named = (s3_endpoint(environment), environment.get("AZURE_STORAGE_ENDPOINT"), environment.get("GOOGLE_BASE_URL"))
    return any(address and address.startswith("http://") for address in named)


def _chosen(begin: str, names: list[str], environment: Mapping[str, str]) -> dict[str, str]:
    return {(begin + name).lower(): value for name in names if (value := environment.get(begin + name))}


def _of_file(path: Path, section: str, names: Mapping[str, str]) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        parser.read_string(path.read_text())
    except OSError:
        return {}
    except (configparser.Error, UnicodeDecodeError) as error:
        # The parser's message shows the line, which may be a key.
        raise SettingsError(f"{path} is not readable as AWS's tools write it ({type(error).__name__}).") from None
    if not parser.has_section(section):
        return {}
    return {known: parser[section][name] for name, known in names.items() if parser[section].get(name)}
