# SPDX-License-Identifier: GPL-3.0-or-later
"""./dev train RECIPE.toml"""

from ..values import number
from .options import add_cache, add_compile, add_device, add_out, add_threads, set_threads, value


def configure(parser) -> None:
    parser.usage = "./dev train RECIPE.toml --out DIR [OPTIONS]"
    parser.description = (
        "Trains the members of a recipe on the same batches with the same optimiser: teachers, "
        "students from scratch, or students that learn from the recipe's teacher. A run that was "
        "stopped (Ctrl-C, power) goes on where it was when the same command is given again. "
        "Writes last.ckpt, log.jsonl, run.json (time and FLOP by phase) and tensorboard/."
    )
    add = parser.add_argument
    add("recipe", metavar="RECIPE.toml", help="training/recipes/ has some")
    add_out(parser)
    add_cache(parser)
    add(
        "--minutes",
        type=value(number(0, above=True)),
        help="stop after so many minutes, to be continued",
    )
    add_compile(parser)
    add_device(parser)
    add_threads(parser)


def run(arguments) -> int:
    from ..teaching import recipe as recipes
    from ..teaching.train import Trainer

    a = arguments
    set_threads(a)
    recipe = recipes.load(a.recipe)
    trainer = Trainer(recipe, a.out, a.device, compile_nets=a.compile, cache=a.cache)
    trainer.resume()
    done = trainer.fit(max_seconds=a.minutes and a.minutes * 60)
    if done:
        names = ", ".join(m.name for m in recipe.members)
        steps = f"{trainer.step} steps of {recipe.batch} slots"
        print(f"{trainer.checkpoint}: {names} trained, {steps}")
        return 0
    print(
        f"{trainer.checkpoint}: stopped at step {trainer.step} of {recipe.steps}; "
        "the same command goes on from there"
    )
    return 0 if a.minutes else 130
