"""The output, loaded as a user would in a process that knows nothing of the training: before it may be registered.

python -m forge_train.load_test        started by the shim of node 0, after all ranks have ended well

An adapter is loaded over its base, a whole model by itself. One that writes has to give finite logits and generate
a few tokens, a reward model has to score. What was loaded and what came out goes into output/load_test.json, which
is hashed with the rest. Otherwise the last line printed says why not, and the exit code is not 0.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from .outcome import BAD_INPUT, FAILED, OK
from .rundir import sync_directory, write_json

ADAPTER, REPORT = "adapter_config.json", "load_test.json"
TOKENS = 8
TEXT = "Hello, how are you?"
_VERSIONS = ("torch", "transformers", "peft", "safetensors")


class Unusable(Exception):
    """The output cannot be used, with the reason."""


def main() -> int:
    """The command line."""
    output = Path(os.environ["FORGE_OUTPUT_DIR"])
    config = json.loads(Path(os.environ["FORGE_CONFIG"]).read_bytes())
    try:
        report = check(output, config.get("trust_remote_code") is True)
        write_json(output / REPORT, report)
        sync_directory(output)
    except Unusable as e:
        print(_one_line(str(e)), flush=True)
        return BAD_INPUT
    except Exception as e:
        traceback.print_exc()
        print(f"{type(e).__name__}: {_one_line(str(e))}", file=sys.stderr, flush=True)
        return FAILED
    return OK


def _one_line(text: str, most: int = 500) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def models(output: Path) -> list[Path]:
    """The directories of output that hold an adapter or a model; Unusable when there is none."""
    found = [p for p in (output, output / "merged") if (p / ADAPTER).is_file() or (p / "config.json").is_file()]
    if not found:
        raise Unusable(f"the output has neither {ADAPTER} nor config.json: it is no model")
    return found


def check(output: Path, trust: bool = False) -> dict[str, Any]:
    """Load everything in output, and use it; Unusable when that cannot be done."""
    found = models(output)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    began = time.monotonic()
    warnings.simplefilter("ignore")
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    loaded, device, note = [], "cuda" if torch.cuda.is_available() else "cpu", ""
    for path in found:
        try:
            one = _use(path, trust, device)
        except torch.OutOfMemoryError as e:
            # others may be on this GPU; that it loads at all can be shown on the CPU
            note, device = f"not enough memory on the GPU, so on the CPU: {_one_line(str(e), 200)}", "cpu"
            one = _use(path, trust, device)
        loaded.append({"path": path.relative_to(output).as_posix()} | one)
    report = {"loaded": loaded, "device": device, "seconds": round(time.monotonic() - began, 3), "versions": _versions()}
    return report | ({"note": note} if note else {})


def _versions() -> dict[str, str]:
    from importlib import metadata

    return {name: metadata.version(name) for name in _VERSIONS}


def _use(path: Path, trust: bool, device: str) -> dict[str, Any]:
    from safetensors import SafetensorError
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=trust)
        adapted = (path / ADAPTER).is_file()
        model, scores, base = _adapter(path, trust) if adapted else _whole(path, trust)
    except (ValueError, OSError, KeyError, RuntimeError, SafetensorError) as e:
        if type(e).__name__ == "OutOfMemoryError":
            raise
        raise Unusable(f"{path.name} cannot be loaded: {e}") from e
    model = model.to(device).eval()
    result = _score(model, tokenizer, device) if scores else _write(model, tokenizer, device)
    kind = ("reward " if scores else "") + ("adapter" if adapted else "model")
    return {"kind": kind, "class": type(model).__name__} | ({"base": base} if base else {}) | result


def _adapter(path: Path, trust: bool):
    import peft
    from safetensors import safe_open

    config = json.loads((path / ADAPTER).read_bytes())
    base, scores = config.get("base_model_name_or_path"), config.get("task_type") == "SEQ_CLS"
    if not base or not Path(base).is_dir():
        raise Unusable(f"{ADAPTER} names the base model {base}, which is not a directory on this node")
    kind = peft.AutoPeftModelForSequenceClassification if scores else peft.AutoPeftModelForCausalLM
    more = {"num_labels": 1} if scores else {}
    model = kind.from_pretrained(path, local_files_only=True, trust_remote_code=trust, dtype="auto", **more)
    with safe_open(path / "adapter_model.safetensors", "pt") as f:
        saved = set(f.keys())
    # PEFT loads what it can and only warns of the rest: a matrix without its partner would stay at random
    wrong = saved ^ set(peft.get_peft_model_state_dict(model))
    if wrong:
        raise Unusable(f"the adapter and the model that it is for differ in {', '.join(sorted(wrong)[:3])}")
    return model, scores, base


def _whole(path: Path, trust: bool):
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    config = json.loads((path / "config.json").read_bytes())
    scores = any("SequenceClassification" in a for a in config.get("architectures") or ())
    kind = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
    model, info = kind.from_pretrained(
        path, local_files_only=True, trust_remote_code=trust, dtype="auto", output_loading_info=True
    )
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info.get(what):
            raise Unusable(f"the model has {what.replace('_', ' ')}: {', '.join(sorted(map(str, info[what]))[:3])}")
    return model, scores, ""


def _inputs(tokenizer, device: str, generation: bool):
    """What a user would send: a message where the tokenizer knows how messages are written, else a text."""
    text, special = TEXT, True
    if tokenizer.chat_template:
        try:
            messages = [{"role": "user", "content": TEXT}]
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation)
            special = False
        except Exception as e:
            raise Unusable(f"the chat template of the output cannot write a message: {type(e).__name__}: {e}") from e
    inputs = tokenizer(text, return_tensors="pt", add_special_tokens=special).to(device)
    if inputs["input_ids"].numel() == 0:
        raise Unusable(f"the tokenizer of the output makes no tokens of {TEXT!r}")
    return {k: v for k, v in inputs.items() if k in ("input_ids", "attention_mask")}


def _score(model, tokenizer, device: str) -> dict[str, Any]:
    import torch

    with torch.inference_mode():
        logits = model(**_inputs(tokenizer, device, False)).logits
    if tuple(logits.shape) != (1, 1):
        raise Unusable(f"the reward model gives {tuple(logits.shape)} numbers for a text; it should give one score")
    if not torch.isfinite(logits).all():
        raise Unusable(f"the reward model scores a text with {logits.item()}")
    return {"score": logits.item()}


def _write(model, tokenizer, device: str) -> dict[str, Any]:
    import torch

    inputs = _inputs(tokenizer, device, True)
    with torch.inference_mode():
        logits = model(**inputs).logits
        if not torch.isfinite(logits).all():
            raise Unusable("the logits of the model are not finite")
        ids = model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False, pad_token_id=_padding(tokenizer))
    new = ids[0, inputs["input_ids"].shape[1] :].tolist()
    if not new:
        raise Unusable("the model generates no token")
    return {"tokens": new}


def _padding(tokenizer) -> int:
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
