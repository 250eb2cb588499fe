"""Provides pictures to prove and evaluate with, mean images, and torchvision's transforms."""
