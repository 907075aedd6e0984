"""FastAPI and one inference per request, no batching: what most tutorials end with."""

from typing import Any

from common import answer, decode, load
from fastapi import FastAPI, UploadFile

predict, app = load(), FastAPI()


@app.post("/predict")
async def route(file: UploadFile) -> dict[str, Any]:
    """One image in the form field `file`."""
    return answer(predict(decode(await file.read())[None])[0])
