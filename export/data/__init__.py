"""Pictures to prove and evaluate with, mean images, and the transforms of torchvision."""
