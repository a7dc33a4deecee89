"""What every test shares: the type checker, switched on for the whole package, and models made of random numbers."""

import pytest
import torch
from jaxtyping import install_import_hook

install_import_hook("rwkv_explainer", "beartype.beartype")  # before anything imports the package
torch.set_num_threads(1)  # the fastest for tensors as small as these


@pytest.fixture(scope="session")
def random_model():
    """A function that builds an `RWKVLM` of any size, its parameters random, keys within a few units, decays mixed."""
    from rwkv_explainer.model import RWKVLM, RWKVConfig

    def build(layers=2, channels=8, vocabulary=11, hidden=20, seed=0, dtype=torch.float64):
        model = RWKVLM.from_config(RWKVConfig(vocabulary, channels, layers, hidden))
        random = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "log_decay" in name:
                parameter.data.uniform_(-6, 0.7, generator=random)
            elif "mixer" in name:
                parameter.data.uniform_(0, 1, generator=random)
            elif "normalize" in name or ".ln" in name:
                parameter.data.normal_(name.endswith("weight"), 0.2, generator=random)
            else:
                parameter.data.normal_(0, parameter.shape[-1] ** -0.5, generator=random)
        return model.to(dtype).requires_grad_(False)

    return build
