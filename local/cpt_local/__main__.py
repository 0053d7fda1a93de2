"""`python -m cpt_local`."""

from cpt_local.main import main

if __name__ == "__main__":
    raise SystemExit(main())
