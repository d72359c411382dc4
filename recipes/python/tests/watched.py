"""What a rank's model is held in, written down by the rank itself before its first step and after its last."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path


def base(import_libraries, path: Path):
    """import_libraries, and from then on training writes what it sees of the model to a file."""

    def wrapped(quiet):
        import_libraries(quiet)
        from forge_train.bridge import ContractCallback

        seen = {}
        begin, end = ContractCallback.on_train_begin, ContractCallback.on_train_end

        def on_train_begin(self, args, state, control, model=None, **kwargs):
            seen["begin"] = look(model)
            return begin(self, args, state, control, model=model, **kwargs)

        def on_train_end(self, args, state, control, model=None, **kwargs):
            seen["end"] = look(model)
            path.write_text(json.dumps(seen))
            return end(self, args, state, control, model=model, **kwargs)

        ContractCallback.on_train_begin, ContractCallback.on_train_end = on_train_begin, on_train_end

    return wrapped


def look(model) -> dict:
    """Modules in 4 bits with the hash of their packed weights, and the kinds of everything else."""
    packed = {
        name: hashlib.sha256(module.weight.detach().cpu().numpy().tobytes()).hexdigest()
        for name, module in model.named_modules()
        if type(getattr(module, "weight", None)).__name__ == "Params4bit" and getattr(module, "base_layer", None) is None
    }
    return {
        "packed": packed,
        "linear_not_packed": sorted(n for n, m in model.named_modules() if type(m).__name__ == "Linear" and "lora_" not in n),
        "trained": sorted(n for n, p in model.named_parameters() if p.requires_grad),
        "trained_in": dict(Counter(str(p.dtype) for p in model.parameters() if p.requires_grad)),
        "device": sorted({p.device.type for p in model.parameters()}),
    }
