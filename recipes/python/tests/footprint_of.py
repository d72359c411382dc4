"""Counts the tensors that a recipe's run really holds, part by part: internal/footprint is judged by it.

    python footprint_of.py RECIPE OUT.json      a rank's program, in a rank's environment

Bytes of tensors are counted, and not the process: an allocator and an interpreter say nothing of a GPU.
"""

from __future__ import annotations

import importlib
import json
import sys
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakSet


class Box:
    """A tensor that the graph keeps; it is gone when the graph lets it go."""

    __slots__ = ("__weakref__", "tensor")

    def __init__(self, tensor):
        self.tensor = tensor


def storages(tensors) -> dict[int, int]:
    """Bytes by storage: two views of one count once."""
    found = {}
    for t in tensors:
        s = t.untyped_storage()
        found[s.data_ptr()] = s.nbytes()
    return found


class Graph:
    """What autograd keeps, while it is looked at."""

    def __init__(self, model):
        self.boxes: WeakSet[Box] = WeakSet()
        self.own = set(storages([*model.parameters(), *model.buffers()]))
        trained = [p for p in model.parameters() if p.requires_grad and p.dim() == 2]
        self.shapes = {tuple(p.shape) for p in trained} | {tuple(p.shape)[::-1] for p in trained}

    @contextmanager
    def look(self):
        import torch

        def pack(tensor):
            box = Box(tensor)
            self.boxes.add(box)
            return box

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.tensor):
            yield self

    def held(self, without=()) -> int:
        """Bytes of activations; a copy of a weight in another number format is none."""
        casts, rest = {}, {}
        skip = self.own | set(storages(without))
        for box in list(self.boxes):
            t = box.tensor
            for key, size in storages([t]).items():
                if key in skip:
                    continue
                whole = size == t.numel() * t.element_size()
                (casts if whole and tuple(t.shape) in self.shapes and t.element_size() == 2 else rest)[key] = size
        return sum(v for k, v in rest.items() if k not in casts)


def head_buffers(seen: dict) -> None:
    """Have TRL's fused output head tell of the buffers that it works in."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    try:
        from trl.kernels.chunked_logprob import ChunkedLogProbFunction as Head
    except ImportError:  # TRL before 1.16 has another head, of which docs/estimate.md says nothing
        return

    made = {torch.ops.aten.empty.memory_format, torch.ops.aten.zeros.default, torch.ops.aten.full.default}

    class Buffers(TorchDispatchMode):
        def __init__(self, weight):
            super().__init__()
            self.weight, self.buffers, self.cast = weight.untyped_storage().data_ptr(), 0, 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if func in made:
                self.buffers += out.untyped_storage().nbytes()
            elif (  # to the format that is computed in; to fp32 and back only a CPU goes
                func is torch.ops.aten._to_copy.default
                and args[0].untyped_storage().data_ptr() == self.weight
                and out.element_size() < 4
            ):
                self.cast = max(self.cast, out.untyped_storage().nbytes())
            return out

    def told(do, weight_of):
        def wrapped(ctx, *args):
            with Buffers(weight_of(ctx, args)) as mode:
                out = do(ctx, *args)
            seen["logits"] = max(seen.get("logits", 0), mode.buffers + mode.cast)
            return out

        return staticmethod(wrapped)

    Head.forward = told(Head.forward, lambda ctx, args: args[1])
    Head.backward = told(Head.backward, lambda ctx, args: ctx.saved_tensors[1])


def casts_of(model):
    """A mode that counts the copies of trained weights that autocast makes, each once: it keeps them to the end of the forward pass."""
    from torch import ops
    from torch.utils._python_dispatch import TorchDispatchMode

    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # is cast block by block
    trained = [p for p in model.parameters() if p.requires_grad and (head is None or p is not head.weight)]

    class Casts(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.own, self.made = set(storages(trained)), {}

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if func is ops.aten._to_copy.default and out.element_size() < args[0].element_size():
                source = args[0].untyped_storage().data_ptr()
                if source in self.own:
                    self.made[source] = out.untyped_storage().nbytes()
            return out

    return Casts()


def a_layer(model):
    """The bytes that one layer keeps beside its input: a graph, where the answer will stand, and hooks to remove."""
    layers = next(m for n, m in model.named_modules() if n.endswith("layers"))
    graph, sizes = Graph(model), {}

    def before(module, args, kwargs):
        graph.boxes.clear()
        sizes["input"] = args[0] if args else kwargs["hidden_states"]

    def after(module, args, kwargs, out):
        sizes["layer"] = graph.held(without=[sizes["input"]])

    hooks = [layers[1].register_forward_pre_hook(before, with_kwargs=True), layers[1].register_forward_hook(after, with_kwargs=True)]
    return graph, sizes, hooks


def telling(inputs, args) -> bool:
    """Say whether a batch is one that estimates are of: full rows, and where there are several of different lengths."""
    if not isinstance(inputs, dict):  # prompts: the answers are written in the step
        return True
    mask = inputs["attention_mask"]
    return mask.shape[1] > args.max_length // 2 and (mask.shape[0] == 1 or bool((mask == 0).any()))


def ids_of(inputs):
    """The tokens that a batch is learned from."""
    import torch

    if "input_ids" in inputs:
        return inputs["input_ids"]
    return torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)


def watch(seen: dict) -> None:
    """Have a step of the trainer, when its rows are full and its optimizer has its state, tell what is held when."""
    import torch
    from transformers import Trainer

    buffers: dict = {}
    head_buffers(buffers)
    step = Trainer.training_step

    def training_step(self, model, inputs, *args, **kwargs):
        if self.state.global_step == 0 or "tokens" in seen or not telling(inputs, self.args):
            return step(self, model, inputs, *args, **kwargs)
        graph = Graph(model)
        compute_loss = self.compute_loss

        def counted(*a, **k):
            batch.update({n: v.clone() if hasattr(v, "clone") else v for n, v in a[1].items()})
            with casts_of(model) as casts:
                loss = compute_loss(*a, **k)
            seen["activations"], seen["casts"] = graph.held(), sum(casts.made.values())
            return loss

        self.compute_loss = counted
        checkpointed = self.args.gradient_checkpointing
        batch: dict = {}
        buffers.clear()  # of other steps
        with graph.look():
            loss = step(self, model, inputs, *args, **kwargs)
        self.compute_loss = compute_loss
        seen["logits"] = buffers.get("logits", 0)
        ids = ids_of(batch)
        seen["tokens"] = list(ids.shape)
        trained = [p for p in model.parameters() if p.requires_grad]
        seen["gradients"] = sum(storages(p.grad for p in trained if p.grad is not None).values())
        named = list(model.named_parameters())
        seen["weights"] = sum(storages(p for n, p in named if "lora_" not in n).values())
        seen["adapters"] = sum(storages(p for n, p in named if "lora_" in n).values())
        reference = getattr(self, "ref_model", None)
        seen["reference"] = sum(storages(reference.parameters()).values()) if reference is not None else 0
        if checkpointed:
            grads = [p.grad for p in trained]
            model.gradient_checkpointing_disable()
            layer, sizes, hooks = a_layer(model)
            with layer.look(), self.compute_loss_context_manager():
                compute_loss(model, batch)
            for h in hooks:
                h.remove()
            model.gradient_checkpointing_enable()
            for p, g in zip(trained, grads, strict=True):
                p.grad = g
            seen["activations"] += sizes["layer"]
        state = self.optimizer.state
        seen["optimizer"] = sum(storages(t for s in state.values() for t in s.values() if torch.is_tensor(t)).values())
        with torch.no_grad():
            cache = model(input_ids=ids, use_cache=True)
            cache = getattr(cache, "past_key_values", None)
        if cache is not None:
            kept = [t for c in cache.layers for t in (c.keys, c.values)]
            seen["kv_cache"] = sum(storages(kept).values())
            seen["cache_tokens"], seen["cache_bytes"] = ids.numel(), kept[0].element_size()
        return loss

    Trainer.training_step = training_step


def main() -> int:
    from forge_train import start

    recipe = importlib.import_module(f"forge_train.{sys.argv[1]}").RECIPE
    seen: dict = {}
    load = start.import_libraries

    def import_libraries(quiet):
        load(quiet)
        watch(seen)

    start.import_libraries = import_libraries
    code = start.main(recipe)
    Path(sys.argv[2]).write_text(json.dumps(seen, indent=1, sort_keys=True))
    return code


if __name__ == "__main__":
    sys.exit(main())
