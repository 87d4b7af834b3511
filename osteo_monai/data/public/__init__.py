"""Import public data sets of the spine as manifests: one module for each set, one function for all of them.

``docs/public_data.md`` describes the sets, what is kept and what is left out.
"""

from osteo_monai.data.public.importer import (
    PUBLIC_SETS,
    PublicImport,
    PublicOptions,
    PublicProducts,
    import_public,
    public_products,
)

__all__ = ["PUBLIC_SETS", "PublicImport", "PublicOptions", "PublicProducts", "import_public", "public_products"]
