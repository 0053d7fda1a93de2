"""`python -m cpt_trainer`, as in the image."""

from cpt_trainer.main import main

if __name__ == "__main__":
    main()
