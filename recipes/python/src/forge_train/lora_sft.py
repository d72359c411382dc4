"""Supervised fine-tuning of a LoRA adapter: PEFT and TRL's SFTTrainer under the rank contract.

    python -m forge_train.lora_sft        one process per rank, started by the shim

The order matters: signals first (a TERM during the imports must not kill), then everything
that can be refused without torch, then the imports, then the other ranks.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

from . import __version__, base, environment, rows
from .gang import TIMEOUT, Gang
from .outcome import FAILED, BadInput, Checkpointed, Ended, NodeEnvironment, Superseded
from .params import Param, read_params
from .rundir import RunDir, sync_tree, write_json
from .runtime import Runtime

# The same table as recipes/lora_sft.yaml; a test compares them.
PARAMS = (
    Param("lora.r", int, 8, 1, 1024),
    Param("lora.alpha", float, 16.0, 0.001, 4096),
    Param("lora.dropout", float, 0.0, 0, 0.9),
    Param("lora.target_modules", str, "all-linear"),
    Param("train.learning_rate", float, 2e-4, 0, 10),
    Param("train.epochs", float, 1.0, 0.001, 1000),
    Param("train.max_steps", int, 0, 0, 100_000_000),
    Param("train.batch_size", int, 1, 1, 65536),
    Param("train.gradient_accumulation_steps", int, 1, 1, 65536),
    Param("train.warmup_ratio", float, 0.03, 0, 1),
    Param("train.lr_scheduler", str, "linear", choices=("linear", "cosine", "constant", "constant_with_warmup")),
    Param("train.weight_decay", float, 0.0, 0, 10),
    Param("train.max_grad_norm", float, 1.0, 0, 1_000_000),
    Param("train.seed", int, 42, 0, 4294967295),
    Param("train.max_length", int, 1024, 8, 1_048_576),
    Param("train.packing", bool, False),
    Param("train.assistant_only_loss", bool, False),
    Param("train.gradient_checkpointing", bool, False),
    Param("train.precision", str, "auto", choices=("auto", "fp32", "bf16", "fp16")),
    Param("train.deterministic", bool, False),
    Param("train.logging_steps", int, 1, 1, 1_000_000),
    Param("checkpoint.every_steps", int, 50, 1, 100_000_000),
    Param("checkpoint.keep_last", int, 2, 2, 1000),
)


def main() -> int:
    """Run one rank to its end; return the exit code of the contract."""
    try:
        run = RunDir.from_environment()
        gang = Gang.from_environment()
    except Ended as e:  # without these there is no status file to write to
        print(e, file=sys.stderr)
        return e.code
    runtime = Runtime(run, gang)
    runtime.listen()
    try:
        train(runtime)
    except Ended as e:
        return runtime.finish(e)
    except Exception as e:
        code = runtime.finish(e)
        if code == FAILED:
            traceback.print_exc()
        return code
    return runtime.finish(None)


def train(runtime: Runtime) -> None:
    """The whole of it; ends by returning (done) or by raising how it ended."""
    run, gang = runtime.run, runtime.gang
    runtime.code = {"forge_train": __version__, "sha256": environment.code_digest()}
    config = run.read_config()
    params = read_params(PARAMS, config.get("params") or {})
    runtime.code |= environment.check()
    run.check_fence()
    base_path, data_path = _input(config, "base"), _input(config, "dataset")
    data = rows.inspect(data_path, config.get("dataset_kind") or "", params["train.assistant_only_loss"])
    base.inspect(base_path, data.conversational)
    runtime.stop_if_cancelled()

    _import_libraries(quiet=gang.rank != 0)
    gang.choose_device()
    gang.join()
    runtime.stop_if_cancelled()
    trainer = _build(runtime, params, base_path, data)
    trainer.train(resume_from_checkpoint=str(run.resume_from) if run.resume_from else None)
    if runtime.step < runtime.total_steps:
        raise Checkpointed(f"saved at step {runtime.step} of {runtime.total_steps} on request")
    _write_output(runtime, trainer, params, config)
    gang.leave()


def _input(config: dict, name: str) -> Path:
    value: Any = config.get(name)
    path = value.get("path") if isinstance(value, dict) else value
    if not isinstance(path, str) or not path:
        raise BadInput(f"the configuration names no {name}: lora_sft needs a base model and a dataset")
    if not os.path.isabs(path):
        raise BadInput(f"{name} path {path} is not absolute")
    return Path(path)


def _import_libraries(quiet: bool) -> None:
    # No network, no telemetry, no progress bars in log files; ranks fork nothing.
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ.setdefault(name, "1")
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # the libraries' notes to their own callers; nobody who reads a run's log can act on them
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    try:
        import datasets
        import peft  # noqa: F401
        import torch  # noqa: F401
        import transformers
        import trl  # noqa: F401
    except (ImportError, OSError) as e:  # OSError: a shared library of torch that is not there
        raise NodeEnvironment(f"the Python environment {sys.prefix} does not import: {e}") from e
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error() if quiet else transformers.utils.logging.set_verbosity_warning()


def _precision(wanted: str, device: str) -> str:
    """The number format, refused where this device has none of it."""
    import torch

    if device == "cpu":
        if wanted == "fp16":
            raise BadInput("train.precision is fp16, which needs a GPU; on CPU slots use auto, fp32 or bf16")
        return "fp32" if wanted == "auto" else wanted
    supported = torch.cuda.is_bf16_supported(including_emulation=False)
    if wanted == "bf16" and not supported:
        raise BadInput(
            f"train.precision is bf16, which {torch.cuda.get_device_name()} does not have; use auto, fp16 or fp32"
        )
    if wanted == "auto":
        return "bf16" if supported else "fp32"
    return wanted


def _build(runtime: Runtime, params: dict, base_path: Path, data: rows.Rows):
    import torch
    from peft import LoraConfig
    from transformers import PrinterCallback, set_seed
    from trl import SFTTrainer

    from .bridge import ContractCallback, ContractTrainer

    class Trainer(ContractTrainer, SFTTrainer):
        """SFTTrainer that watches for values that are not finite."""

    precision = _precision(params["train.precision"], runtime.gang.device)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    model, tokenizer = base.load(base_path, dtype)
    targets = _targets(params["lora.target_modules"], model)
    if params["train.assistant_only_loss"]:
        _check_markers(tokenizer, base_path)
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=params["lora.r"],
        lora_alpha=params["lora.alpha"],
        lora_dropout=params["lora.dropout"],
        target_modules=targets,
    )
    arguments = _arguments(runtime, params, precision)
    set_seed(params["train.seed"])  # the adapter starts at random; TRL before 1.16 seeds only after that
    try:
        trainer = Trainer(
            model=model, args=arguments, train_dataset=data.to_dataset(), processing_class=tokenizer, peft_config=lora
        )
    except Exception as e:
        if type(e).__module__.startswith("jinja2"):
            raise BadInput(f"the chat template of {base_path} refuses a row of the dataset: {e}") from e
        raise
    if len(trainer.train_dataset) == 0:
        raise BadInput(
            f"no row has anything to learn from within train.max_length = {params['train.max_length']} tokens; raise it"
        )
    trainer.remove_callback(PrinterCallback)
    trainer.attach(ContractCallback(runtime, params["checkpoint.keep_last"]))
    return trainer


def _targets(wanted: str, model) -> str | list[str]:
    if wanted.strip() == "all-linear":
        return "all-linear"
    names = [n.strip() for n in wanted.split(",") if n.strip()]
    have = sorted(
        {path.rsplit(".", 1)[-1] for path, m in model.named_modules() if type(m).__name__ in ("Linear", "Conv1D")}
        - {"lm_head"}
    )
    unknown = [n for n in names if n.rsplit(".", 1)[-1] not in have]
    if unknown or not names:
        raise BadInput(
            f"parameter lora.target_modules names {', '.join(unknown) or 'nothing'}; "
            f"this base model has all-linear or any of {', '.join(have)}"
        )
    return names


def _check_markers(tokenizer, base_path: Path) -> None:
    """Refuse a chat template that cannot say which tokens are the assistant's."""
    from trl.chat_template_utils import get_training_chat_template

    try:
        get_training_chat_template(tokenizer)
    except ValueError as e:
        raise BadInput(
            "train.assistant_only_loss is on, and the chat template of "
            f"{base_path} does not mark the assistant's turns with {{% generation %}}"
        ) from e


def _arguments(runtime: Runtime, params: dict, precision: str):
    from trl import SFTConfig

    cpu = runtime.gang.device == "cpu"
    several = {"ddp_backend": "gloo" if cpu else "nccl", "ddp_timeout": int(TIMEOUT.total_seconds())}
    return SFTConfig(
        output_dir=str(runtime.run.checkpoints),
        learning_rate=params["train.learning_rate"],
        num_train_epochs=params["train.epochs"],
        max_steps=params["train.max_steps"] or -1,
        per_device_train_batch_size=params["train.batch_size"],
        gradient_accumulation_steps=params["train.gradient_accumulation_steps"],
        # below 1 transformers reads a share of the steps, from 1 on a number of steps
        warmup_steps=min(params["train.warmup_ratio"], 1 - 1e-9),
        lr_scheduler_type=params["train.lr_scheduler"],
        weight_decay=params["train.weight_decay"],
        max_grad_norm=params["train.max_grad_norm"],
        seed=params["train.seed"],
        max_length=params["train.max_length"],
        packing=params["train.packing"],
        assistant_only_loss=params["train.assistant_only_loss"],
        gradient_checkpointing=params["train.gradient_checkpointing"],
        full_determinism=params["train.deterministic"],
        logging_steps=params["train.logging_steps"],
        save_strategy="steps",
        save_steps=params["checkpoint.every_steps"],
        save_total_limit=None,  # retention is ours: theirs goes by mtime and knows no manifests
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=cpu,
        dataloader_pin_memory=not cpu,
        ddp_find_unused_parameters=False,  # every adapter takes part in every step
        logging_nan_inf_filter=False,  # it would replace NaN by the last mean, and hide it
        disable_tqdm=True,
        report_to="none",
        push_to_hub=False,
        **(several if runtime.gang.world > 1 else {}),
    )


def _write_output(runtime: Runtime, trainer, params: dict, config: dict) -> None:
    """Rank 0 writes adapter, tokenizer and training.json; all ranks learn how it went."""
    run, failure = runtime.run, None
    if runtime.first:
        try:
            run.check_fence()
            run.output.mkdir(parents=True, exist_ok=True, mode=0o750)
            trainer.accelerator.unwrap_model(trainer.model).save_pretrained(run.output)
            trainer.processing_class.save_pretrained(run.output)
            write_json(
                run.output / "training.json",
                {
                    "run_id": run.run_id,
                    "attempt": run.attempt,
                    "recipe": "lora_sft",
                    "params": params,
                    "base": config.get("base"),
                    "dataset": config.get("dataset"),
                    "steps": runtime.step,
                    "world_size": runtime.gang.world,
                    "code": runtime.code,
                },
            )
            sync_tree(run.output)
            run.check_fence()
        except (Superseded, OSError) as e:
            failure = e
    # every rank ends the same way, whoever is looked at first
    error, fenced = runtime.gang.gather((str(failure or ""), isinstance(failure, Superseded)))[0]
    if fenced:
        raise Superseded(error)
    if error:
        raise OSError(f"the output could not be written: {error}")


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # no interpreter teardown: after a failure it can wait for ever on a collective's threads
    os._exit(code)
