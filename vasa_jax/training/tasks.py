"""What is trained: a stage as a handful of functions that the step and the loop call.

All give the same interface, so that one step and one loop serve them: stage 1 is the face latent space (VASA-1 section
3.1), stage 2 the motion of a face from sound (section 3.2), and there is the feature network that judges the world's
people.
"""

from vasa_jax.errors import UserError
from vasa_jax.training.config import (
    AutoencoderExperiment,
    Experiment,
    FeaturesExperiment,
    MotionExperiment,
)
from vasa_jax.training.face_task import face_task
from vasa_jax.training.features_task import features_task
from vasa_jax.training.motion_task import motion_task
from vasa_jax.training.task import Task


def make_task(experiment: Experiment) -> Task:
    """The task of an experiment; raises UserError for an experiment of no known stage."""
    if isinstance(experiment, AutoencoderExperiment):
        return face_task(experiment)
    if isinstance(experiment, MotionExperiment):
        return motion_task(experiment)
    if isinstance(experiment, FeaturesExperiment):
        return features_task(experiment)
    raise UserError(
        f"{type(experiment).__name__} is no experiment; return an AutoencoderExperiment, a MotionExperiment or a "
        "FeaturesExperiment"
    )
