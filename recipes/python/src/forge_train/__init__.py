"""forge_train: the training runtime and the recipes of forge-ml.

A rank starts as ``python -m forge_train.<recipe>`` and speaks the rank contract
(docs/run-contract.md). How a start runs, and which module does it:

    environment   are the packages here in the supported range          exit 88
    params        parameters of config.json, checked against one table   exit 87
    rows, base    dataset rows and base model, before anything heavy     exit 87
    formats       the files of a dataset in every format, as rows; presets: rows of known shapes
    gang          the ranks find each other, agree, gather               exit 89
    runtime       signals, stop file, fence, metrics, status.json        exits 85, 86, 143
    bridge        all of the above as callbacks of a Hugging Face trainer
    start         one rank from its start to its last word; a recipe only builds its trainer
    settings      training parameters as TRL's trainers take them
    assemble      from a job to its trainer, for the recipes that train with TRL
    sharded       the model split over the ranks
    adapter       what is trained of the model: LoRA, or all of it
    join          a start adapter: into the base's weights, and joined to what is learnt on top
    output        what a run leaves; card: the model card in it
    load_test     a program of its own, after the ranks: can what they left be loaded and used
    rewards       what an answer is worth: functions, and reward_model; builtin_rewards are there already
    prompts       prompts as tokens, and how long they may be
    rollouts      what TRL's GRPO and RLOO keep between two steps, saved
    ppo           PPO: its parameters, how it is put together; ppo_trainer: an update of it
    rollout       answers of PPO's policy; update: what is learnt from them, in numbers; value: the value model
    samples       some of the answers, for people to read
    tables        parameters that recipes share
    template      chat templates: the tokenizer's own, or ChatML
    precheck      a look at the rows by the real tokenizer, before a GPU is asked for
    sample        which rows are looked at for that
    checkpoint    manifests that make checkpoints durable
    keep          which checkpoints stay, and which one is gone back to
    disk          which errors mean a full disk, and how much room there is
    metrics       what a run reports, and how it gets to metrics.jsonl
    mishap        losses that are no numbers or leap: end, or go back and skip the batch
    report        the same metrics for W&B, TensorBoard and MLflow
    evaluate      an eval: a suite of lm-evaluation-harness over one model version
    suite         what a suite is, and whether it is the one that was pinned
    subject       what an eval is of: a whole model, or an adapter over its own base
    scores        what the harness left, held against itself
    outcome       which exception means which exit code, in one table
    rundir        the run directory: paths, durable writes, fence

Everything up to ``gang`` imports the standard library only: bad input is found in a
tenth of a second, not after six seconds of importing torch.
"""

__version__ = "0.1.0"
