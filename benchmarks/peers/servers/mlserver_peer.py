"""MLServer: base64 images in its V2 protocol, with its own adaptive batching."""

import numpy as np
from common import decode, load
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Cifar(MLModel):
    """One network."""

    async def load(self) -> bool:
        """Load the network, once at the start."""
        self.run = load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Call the network once for a batch."""
        images = np.stack([decode(item) for item in Base64Codec.decode_input(payload.inputs[0])])
        output = NumpyCodec.encode_output("probabilities", self.run(images))
        return InferenceResponse(model_name=self.name, outputs=[output])
