"""``/v1/files``: documents for later requests. The bytes are kept once, by hash."""

from __future__ import annotations

import asyncio

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from loop_runner.serve import guard
from loop_runner.serve.desk import Desk
from loop_runner.serve.fault import Fault, bad, missing
from loop_runner.serve.store import Upload

_MAX_NAME = 255


async def create(request: Request, desk: Desk) -> Response:
    """Keep one file of a multipart form (`file`, `purpose`)."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Fault(415, "unsupported_media_type", "send a multipart form with the fields file and purpose")
    try:
        form = await request.form(max_files=1, max_fields=10)
    except HTTPException as error:
        raise bad(f"the form cannot be read: {error.detail}", "file") from error
    try:
        name, data = await _file_of(form)
    finally:
        await form.close()
    purpose = form.get("purpose")
    kind = purpose if isinstance(purpose, str) else "user_data"
    owner = guard.credential.get()
    result = await asyncio.to_thread(desk.store.upload, owner, name, data, kind[:64])
    return JSONResponse(_shown(result))


async def _file_of(form: FormData) -> tuple[str, bytes]:
    """The name and the bytes of the field `file`."""
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise bad("the form has no file", "file", "missing_required_parameter")
    data = await file.read()
    name = (file.filename or "").replace("\\", "/").rpartition("/")[2][-_MAX_NAME:]
    if not data or not name.strip(". "):
        raise bad("the file is empty or has no name", "file")
    return name, data


async def listed(_request: Request, desk: Desk) -> Response:
    """The caller's files, the newest first."""
    result = await asyncio.to_thread(desk.store.uploads_of, guard.credential.get())
    return JSONResponse({"object": "list", "data": [_shown(item) for item in result], "has_more": False})


async def retrieve(_request: Request, desk: Desk, file_id: str) -> Response:
    """One file's description."""
    return JSONResponse(_shown(_upload(desk, file_id)))


async def content(_request: Request, desk: Desk, file_id: str) -> Response:
    """One file's bytes, which no browser is to interpret."""
    data = await asyncio.to_thread(desk.store.bytes_of, _upload(desk, file_id))
    return Response(
        data, media_type="application/octet-stream", headers={"content-disposition": "attachment"}
    )


async def remove(_request: Request, desk: Desk, file_id: str) -> Response:
    """Forget a file. Runs that read it have copies of their own."""
    await asyncio.to_thread(desk.store.forget, _upload(desk, file_id))
    return JSONResponse({"id": file_id, "object": "file", "deleted": True})


def _upload(desk: Desk, file_id: str) -> Upload:
    result = desk.store.uploaded(file_id, guard.credential.get())
    if result is None:
        raise missing("file")
    return result


def _shown(upload: Upload) -> dict[str, object]:
    return {
        "id": upload.id,
        "object": "file",
        "bytes": upload.size_bytes,
        "created_at": int(upload.created_at),
        "filename": upload.filename,
        "purpose": upload.purpose,
        "status": "processed",
        "sha256": upload.sha256,
    }
