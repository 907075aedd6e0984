"""FastAPI with one inference per request and no batching, as in most tutorials."""

from typing import Any

from common import answer, decode, load
from fastapi import FastAPI, UploadFile

predict, app = load(), FastAPI()


@app.post("/predict")
async def route(file: UploadFile) -> dict[str, Any]:
    """Classify the image in the form field `file`."""
    return answer(predict(decode(await file.read())[None])[0])
