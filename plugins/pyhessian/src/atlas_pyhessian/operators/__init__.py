"""Symmetric matrices as long as a model, known by their products with vectors."""

from atlas_pyhessian.operators.hessian import HessianOperator, LossFacts
from atlas_pyhessian.operators.symmetric import SymmetricOperator

__all__ = ["HessianOperator", "LossFacts", "SymmetricOperator"]
