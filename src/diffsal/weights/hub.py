"""Weights on a hub, ``hf://OWNER/NAME[@REVISION]``: fetched by huggingface_hub, checked before they are opened"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diffsal.errors import InputError
from diffsal.weights.metadata import sha256_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SCHEME = "hf://"
ADDRESS = re.compile(r"hf://(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?", re.ASCII)
ENDINGS = (".safetensors", ".onnx")  # nothing else is fetched
NAMES = ("model.safetensors", "model.onnx")  # as `diffsal push` writes them
MOST_BYTES = 16 << 30
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Address:
    """``hf://OWNER/NAME[@REVISION]``; a revision is a branch, a tag or a commit."""

    name: str
    revision: str | None = None

    @classmethod
    def of(cls, text: str) -> Address:
        """Raises :class:`InputError` for what is no such address."""
        found = ADDRESS.fullmatch(text)
        if found is None:
            raise InputError(f"{text}: expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
        return cls(found["name"], found["revision"])

    def __str__(self) -> str:
        return f"{SCHEME}{self.name}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class Remote:
    """A file of weights on a hub, and what it must be."""

    name: str
    bytes: int
    sha256: str


def is_address(name: str | Path) -> bool:
    """Whether ``name`` is meant as an address on a hub."""
    return str(name).startswith(SCHEME)


def fetch(name: str | Path, graphs: bool = False) -> Path:
    """The file of weights at an address, in huggingface_hub's cache: with ``graphs`` the ``.onnx`` where there is one.

    Of a repository without the one, the other. Size and SHA-256 are those that the hub states, or, without a network,
    the SHA-256 that the cache keeps the file under. Raises :class:`InputError` for what cannot be fetched or
    is damaged.
    """
    address = Address.of(str(name))
    hub = client(address)
    with told(address):
        try:
            info = hub.model_info(address.name, revision=address.revision, files_metadata=True)
        except Exception as error:
            if not unreachable(error):
                raise
            return _cached(address, graphs)
        remote = _chosen(address, [
            Remote(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else "") for file in info.siblings or []
        ], graphs)
        if not 0 < remote.bytes <= MOST_BYTES:
            raise InputError(f"{address}: {remote.name} has {remote.bytes:,} bytes; weights have 1 to {MOST_BYTES:,}")
        if not SHA256.fullmatch(remote.sha256):
            raise InputError(f"{address}: the hub states no SHA-256 of {remote.name}; it must be stored by LFS")
        try:
            path = hub.hf_hub_download(address.name, remote.name, revision=address.revision)
        except Exception as error:
            if not unreachable(error):
                raise
            raise InputError(f"{address}: {endpoint()} went away while {remote.name} was fetched; run it again: what "
                             "came is kept") from None
    return _checked(address, Path(path), remote)


def _chosen(address: Address, files: list[Remote], graphs: bool) -> Remote:
    """Of a repository's files the one to load: of the wanted kind, and named as push names it or the only one."""
    for ending in ENDINGS[::-1] if graphs else ENDINGS:
        found = [file for file in files if file.name.endswith(ending)]
        named = [file for file in found if file.name in NAMES]
        if named or len(found) == 1:
            return (named or found)[0]
        if found:
            listed = ", ".join(sorted(file.name for file in found)[:5])
            raise InputError(f"{address}: holds {len(found)} files of weights ({listed}) and none named model{ending}")
    raise InputError(f"{address}: holds no {' and no '.join(ENDINGS)}; `diffsal push` writes them")


def _checked(address: Address, path: Path, remote: Remote) -> Path:
    """``path``, if it is what it must be; else it leaves the cache."""
    if path.stat().st_size == remote.bytes and sha256_of(path) == remote.sha256:
        return path
    for place in (path.resolve(), path):
        with suppress(OSError):
            place.unlink()
    raise InputError(f"{address}: {remote.name} was not what the hub states (SHA-256 {remote.sha256[:12]}…) and is "
                     "removed from the cache; run it again to fetch it anew")


def _cached(address: Address, graphs: bool) -> Path:
    """What an earlier run fetched, checked against the hash that it is kept under."""
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{endpoint()} cannot be reached"
    place = Path(constants.HF_HUB_CACHE)
    try:
        repositories = scan_cache_dir(place).repos
    except CacheNotFound:
        repositories = frozenset()
    kept = [repo for repo in repositories if repo.repo_type == "model" and repo.repo_id == address.name]
    wanted = address.revision or "main"
    for revision in (revision for repo in kept for revision in repo.revisions):
        if wanted == revision.commit_hash or wanted in revision.refs:
            files = {file.file_name: file for file in revision.files}
            remotes = [Remote(n, f.size_on_disk, f.blob_path.name) for n, f in files.items() if n.endswith(ENDINGS)]
            if remotes:
                remote = _chosen(address, remotes, graphs)
                if not SHA256.fullmatch(remote.sha256):
                    raise InputError(f"{address}: {why}, and {place} does not keep its files by their hashes; connect")
                return _checked(address, files[remote.name].file_path, remote)
    raise InputError(f"{address}: {why}, and the cache {place} holds no copy; connect once, or set HF_HOME to a folder "
                     "that has one")


def client(address: Address) -> HfApi:
    """huggingface_hub's client, with its own token and cache; :class:`InputError` where it is not installed."""
    try:
        from huggingface_hub import HfApi
    except ImportError:
        needed = 'needs huggingface_hub: pip install huggingface_hub, or "diffsal[torch]"'
        raise InputError(f"{address}: {needed}") from None
    return HfApi(library_name="diffsal")


def endpoint() -> str:
    """The hub's address: huggingface.co, or what HF_ENDPOINT says."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def unreachable(error: Exception) -> bool:
    """Whether no answer came: there is no network, or huggingface_hub was told to use none."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if isinstance(error, HfHubHTTPError):
        return False
    if isinstance(error, LocalEntryNotFoundError):
        return True
    # Older versions raise requests' errors, newer ones httpx's
    library = type(error).__module__.split(".")[0]
    return isinstance(error, (ConnectionError, TimeoutError)) or library.startswith(("requests", "httpx", "httpcore"))


@contextmanager
def told(address: Address) -> Iterator[None]:
    """What a hub refuses, as errors of one line."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise InputError(f"{address}: asks to accept its terms: do it at {endpoint()}/{address.name}, then "
                         "`hf auth login`") from None
    except errors.RepositoryNotFoundError:
        raise InputError(f"{address}: {endpoint()} has no such model, or shows it only to its owner: `hf auth login`"
                         ) from None
    except errors.RevisionNotFoundError:
        raise InputError(f"{address}: has no revision {address.revision}") from None
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise InputError(f"{address}: {endpoint()} asks for a token that may do this: `hf auth login`") from None
        message = " ".join((error.server_message or str(error)).split())[:200]
        raise InputError(f"{address}: {endpoint()} answered {status}: {message}") from None
    except (errors.HFValidationError, OSError) as error:
        raise InputError(f"{address}: {' '.join(str(error).split())[:300]}") from None
