"""What runs when: the command line and the Prefect flow. No numpy and no torch."""
