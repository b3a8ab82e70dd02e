"""Pushing a checkpoint to the Hub: one commit with everything that belongs to it."""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar

from huggingface_hub import HfApi
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: httpx's, under whatever name it has
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from jinja2 import TemplateError
from transformers.utils.hub import CHAT_TEMPLATE_DIR

from compress.checkpoint.exported import EXPORT_FILE, Export, is_export, read_export
from compress.checkpoint.licences import LICENCES
from compress.checkpoint.loading import COMPRESSION_FILE, load_config, read_compression
from compress.checkpoint.matching import load_recogniser
from compress.checkpoint.weights import WEIGHTS_DIGEST, weights_digest
from compress.conformers import skeleton
from compress.cost import size_of
from compress.files.paths import PLACES, is_local, local_paths, public_text
from compress.files.reading import read_json, read_object
from compress.machine import TORCH
from compress.model.card import CARD_FILE, model_card

REPORT_FOLDER, GRAPHS_FOLDER = "report", "onnx"
REPORT_FILE = "report.json"
REPORT_FORM = {"data.source": str, "model.wer": float, "model.words": int, "model.parameters.total": int}
REPORT_FILES = (REPORT_FILE, "report.md", "report.html")
TEXT_SUFFIXES = (".json", ".jsonl", ".md", ".html", ".txt", ".jinja", ".py", ".yaml")
HUB_FILE = ".gitattributes"
UNAUTHORISED, FORBIDDEN, TAKEN = 401, 403, 409


class PushError(ValueError):
    """A checkpoint could not be pushed."""


@dataclass(frozen=True, kw_only=True)
class HubConfig:
    """Where a checkpoint goes on the Hub, and as what.

    Attributes:
        repo_id: `user/name` on the Hub.
        license: as the Hub abbreviates it, e.g. `cc-by-4.0`; that of the model it was made from usually binds.
        datasets: Hub names of the data it was trained on.
        language: e.g. `en`.
        private: whether a new repository is private.
        update: whether to add a commit to a repository that holds files already.
        message: of the commit.
    """

    SHORT_FOR: ClassVar[str] = "repo_id"

    repo_id: str
    license: str | None = None
    datasets: tuple[str, ...] = ()
    language: str | None = None
    private: bool = False
    update: bool = False
    message: str = "Compressed with conformer-compress"


@dataclass(frozen=True, kw_only=True)
class PushConfig(HubConfig):
    """What goes to the Hub, and as what.

    Attributes:
        model: folder of the checkpoint.
        report: folder that `compress evaluate --out` has filled; its error rates go into the card.
        export: folder that `compress export` has filled; it goes to onnx/, and what it is into the card.
        dry_run: show what would go, and send nothing.
    """

    model: str
    report: str | None = None
    export: str | None = None
    dry_run: bool = False


@contextmanager
def staged(config: PushConfig) -> Iterator[Path]:
    """Makes a temporary folder with the very files that go to the Hub; no text in it names a local folder.

    Raises:
        CheckpointError: if the checkpoint is not whole, its weights are no numbers, or its processor does not fit.
        PushError: for a name that no repository can have, or a licence that is none; if the folder of the report holds
            none, or that of another model; if a text is not in UTF-8.
    """
    source = Path(config.model)
    _check_names(config)
    load_recogniser(config.model, dtype="auto")
    with tempfile.TemporaryDirectory() as name:
        stage = Path(name)
        for path in [*source.glob("*"), *source.glob(f"{CHAT_TEMPLATE_DIR}/*")]:
            if path.is_file() and not path.name.startswith("."):
                link = stage / path.relative_to(source)
                link.parent.mkdir(exist_ok=True)
                link.symlink_to(path.resolve())  # weights can be large
        report, export = _stage_report(config, stage), _stage_export(config, stage)
        (stage / CARD_FILE).unlink(missing_ok=True)
        _make_public(stage, [folder for folder in (config.model, config.report, config.export) if folder])
        # The card names no local path, but the repository, which a local folder can be called like.
        (stage / CARD_FILE).write_text(_card(config, report, export), encoding="utf-8")
        yield stage


def _stage_report(config: PushConfig, stage: Path) -> dict[str, Any] | None:
    if config.report is None:
        return None
    folder = Path(config.report)
    if not (folder / REPORT_FILE).is_file():
        raise PushError(
            f"{folder} holds no {REPORT_FILE}; make one with: compress evaluate MODEL --data DIR --out {folder}"
        )
    (stage / REPORT_FOLDER).mkdir()
    for name in REPORT_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, stage / REPORT_FOLDER / name)
    result = read_object(folder / REPORT_FILE, REPORT_FORM)
    _require_same_model(config.model, result, folder / REPORT_FILE)
    return result


def _stage_export(config: PushConfig, stage: Path) -> dict[str, Any] | None:
    """Lays an export into onnx/, where clients look for graphs on the Hub; config and processor are there already."""
    if config.export is None:
        return None
    if not is_export(config.export):
        raise PushError(
            f"{config.export} holds no {EXPORT_FILE}; make one with: "
            f"compress export {config.model} --out {config.export}"
        )
    export = read_export(config.export)
    if export.facts["model"].get(WEIGHTS_DIGEST) != weights_digest(config.model):
        raise PushError(
            f"{config.export} is the export of a model with other weights than {config.model}; make its own with: "
            f"compress export {config.model} --out DIR"
        )
    _link_export(export, stage / GRAPHS_FOLDER)
    return export.facts


def _link_export(export: Export, target: Path) -> None:
    """Lays an export into a folder, as it is; graphs that lie in a folder of that name there lie in this one.

    Its README speaks of the folder as it was exported: it is left out where graphs have moved.
    """
    names = {str(path.relative_to(export.folder)): path for path in export.folder.rglob("*") if path.is_file()}
    moved = {name: name.removeprefix(f"{GRAPHS_FOLDER}/") for name in names}
    for name, path in names.items():
        place = target / moved[name]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path.resolve())
    graphs = [moved[name] for name in export.facts["graphs"]]
    if graphs != export.facts["graphs"]:
        for name in (CARD_FILE, EXPORT_FILE):
            (target / name).unlink(missing_ok=True)
        (target / EXPORT_FILE).write_text(json.dumps(export.facts | {"graphs": graphs}, indent=2) + "\n")


def _require_same_model(model: str, report: dict[str, Any], path: Path) -> None:
    """Refuses a report of an export or of another model: by its weights, if the report knows them, or their number."""
    described, remedy = report["model"], f"make its own with: compress evaluate {model} --data DIR --out {path.parent}"
    if (runtime := described.get("runtime", {}).get("name", TORCH)) != TORCH:
        raise PushError(
            f"{path} is the report of an export that {runtime} ran, and not of the weights that go to the Hub; {remedy}"
        )
    size = size_of(skeleton(load_config(model), original=False)).total
    if described["parameters"]["total"] != size:
        raise PushError(
            f"{path} is the report of a model with {described['parameters']['total']:,} parameters, and {model} has "
            f"{size:,}; {remedy}"
        )
    if described.get(WEIGHTS_DIGEST) not in (None, weights_digest(model)):
        raise PushError(f"{path} is the report of a model with other weights than {model}; {remedy}")


def _make_public(stage: Path, folders: list[str]) -> None:
    """Shortens local paths in every text file of a stage (see `compress.files.paths`); targets of its links stay."""
    texts = {path: _text(path, stage) for path in stage.rglob("*") if path.is_file() and path.suffix in TEXT_SUFFIXES}
    paths = {folder for folder in folders if is_local(folder)}
    for path in texts:
        if path.name in (COMPRESSION_FILE, REPORT_FILE, EXPORT_FILE):
            paths.update(local_paths(read_json(path)))
        elif path.suffix == ".json":
            paths.update(local_paths(_named_places(read_json(path))))
    for path, text in texts.items():
        if (public := public_text(text, paths)) != text:
            path.unlink()
            path.write_text(public, encoding="utf-8")


def _text(path: Path, stage: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise PushError(
            f"{path.relative_to(stage)} is no text in UTF-8 ({error.reason} at byte {error.start}), so local paths in "
            "it cannot be found: save it in UTF-8, or move it out of the folder."
        ) from error


def _named_places(content: Any) -> dict[str, Any]:
    """Picks out what a config of transformers says of where it was loaded from."""
    return {key: value for key, value in content.items() if key in PLACES} if isinstance(content, dict) else {}


def _card(config: PushConfig, report: dict[str, Any] | None, export: dict[str, Any] | None) -> str:
    model = skeleton(load_config(config.model), original=False)
    hub = {"license": config.license, "language": config.language, "datasets": list(config.datasets) or None}
    facts = read_compression(config.model) or {}
    try:
        return model_card(model, facts, report, export, repository=config.repo_id, **hub)
    except (TemplateError, ValueError, TypeError, AttributeError, ArithmeticError, LookupError) as error:
        folders = [folder for folder in (config.report, config.export) if folder]
        raise PushError(
            f"What {' and '.join(folders) or config.model} says does not make a model card ({error}): it is damaged, "
            f"or was written by another version; make {'it' if len(folders) < 2 else 'them'} anew."
        ) from error


def files_of(stage: Path) -> dict[str, int]:
    """Lists the files of a stage by name, with their sizes in bytes."""
    return {str(path.relative_to(stage)): path.stat().st_size for path in sorted(stage.rglob("*")) if path.is_file()}


def check_push(config: HubConfig) -> None:
    """Finds out what would stop a push without sending anything, for jobs that push hours later.

    Raises:
        PushError: for a name that cannot be one, without network, without a token that the Hub accepts and that may
            write there, or if the repository holds files already and `update` is not set.
    """
    api = HfApi()
    with _explained(config.repo_id, api.endpoint):
        _require_user_and_name(config.repo_id)
        account = api.whoami()
        names = {str(owner.get("name")) for owner in (account, *account.get("orgs", ()))}
        role = account.get("auth", {}).get("accessToken", {}).get("role")
        if role == "read" or (role == "write" and config.repo_id.split("/")[0] not in names):
            raise PushError(_no_permission(config.repo_id))
        _exists(api, config)


def push(config: HubConfig, stage: Path) -> str:
    """Makes the repository where needed, and adds one commit with all files of the stage.

    A repository without files, as a push that failed on its way leaves it, is filled like a new one.

    Returns:
        The address of the commit.

    Raises:
        PushError: without a valid token, without permission or network, or if the name is taken.
    """
    api = HfApi()
    with _explained(config.repo_id, api.endpoint):
        api.create_repo(config.repo_id, private=config.private, exist_ok=_exists(api, config))
        commit = api.upload_folder(repo_id=config.repo_id, folder_path=stage, commit_message=config.message)
    return str(commit.commit_url)


def push_command(config: HubConfig, model: str) -> str:
    """Writes the `compress push` by which a checkpoint can be pushed with these settings at any time."""
    words = ["compress", "push", model, config.repo_id]
    for field in fields(HubConfig):
        value = getattr(config, field.name)
        if field.name != "repo_id" and value != field.default:
            words += [f"--{field.name}", value if isinstance(value, str) else json.dumps(value)]
    return shlex.join(words)


def _check_names(config: HubConfig) -> None:
    """Refuses what the Hub would refuse, before anything is made or sent."""
    try:
        _require_user_and_name(config.repo_id)
    except HFValidationError as error:
        raise PushError(f"{config.repo_id!r} is no name for a repository; it looks like user/name. {error}") from error
    if config.license is not None and config.license not in LICENCES:
        (nearest,) = get_close_matches(config.license.lower(), LICENCES, n=1, cutoff=0)
        raise PushError(
            f"license is {config.license!r}, which the Hub does not know; did you mean {nearest!r}? For one that is "
            "not on its list, say other."
        )


def _require_user_and_name(repo_id: str) -> None:
    validate_repo_id(repo_id)
    if repo_id.count("/") != 1:
        raise HFValidationError("The user or organisation before the name is missing.")


def _exists(api: HfApi, config: HubConfig) -> bool:
    """Says whether the repository exists; one that holds files is refused unless it is to be updated."""
    try:
        files = {file.rfilename for file in api.model_info(config.repo_id).siblings or ()}
    except RepositoryNotFoundError:
        return False
    if files - {HUB_FILE} and not config.update:
        raise PushError(_taken(config.repo_id))
    return True


@contextmanager
def _explained(repo_id: str, endpoint: str) -> Iterator[None]:
    """Turns what the Hub answers into what to do about it; no message holds a token."""
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise PushError("There is no token: run `hf auth login`, or set HF_TOKEN to one that may write.") from error
    except HFValidationError as error:
        raise PushError(f"{repo_id!r} is no name for a repository; it looks like user/name. {error}") from error
    except HfHubHTTPError as error:
        raise PushError(_answer(error, repo_id, endpoint)) from error
    except (OfflineModeIsEnabled, HTTPError) as error:  # what is left of HTTPError: nobody answered
        raise PushError(f"{endpoint} cannot be reached ({error}); nothing was changed there.") from error


def _answer(error: HfHubHTTPError, repo_id: str, endpoint: str) -> str:
    status = error.response.status_code
    if status == UNAUTHORISED:
        return f"{endpoint} does not accept the token, or there is none: run `hf auth login`, or set HF_TOKEN."
    if status == FORBIDDEN:
        return _no_permission(repo_id)
    if status == TAKEN:
        return _taken(repo_id)
    return f"{endpoint} answered {status} for {repo_id}: {error.server_message or 'no reason given'}"


def _no_permission(repo_id: str) -> str:
    return f"This token has no permission to write to {repo_id}: take one with write access to that name."


def _taken(repo_id: str) -> str:
    return (
        f"{repo_id} exists already: choose another name, or give --update (a recipe: --push.update) to add a "
        "commit to it."
    )
