"""Symmetric matrices as long as a model, known by their products with vectors."""

from atlas_pyhessian.operators.empirical_fisher import empirical_fisher
from atlas_pyhessian.operators.gauss_newton import gauss_newton
from atlas_pyhessian.operators.hessian import HessianOperator
from atlas_pyhessian.operators.iterating import IteratingOperator, Products, iterating
from atlas_pyhessian.operators.kinds import MATRIX, Kind, output_operator, target_operator
from atlas_pyhessian.operators.loss_surface import LossFacts, LossOperator
from atlas_pyhessian.operators.sandwich import SandwichOperator, through_outputs
from atlas_pyhessian.operators.symmetric import SymmetricOperator

__all__ = [
    "MATRIX",
    "HessianOperator",
    "IteratingOperator",
    "Kind",
    "LossFacts",
    "LossOperator",
    "Products",
    "SandwichOperator",
    "SymmetricOperator",
    "empirical_fisher",
    "gauss_newton",
    "iterating",
    "output_operator",
    "target_operator",
    "through_outputs",
]
