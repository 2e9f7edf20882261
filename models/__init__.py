"""What is computed: torch, numpy and numba. Nothing here knows paths, DVC, Prefect or MLflow."""
