"""Virtual radiographs: protocol, beam, projection and image processing."""

from osteo_monai.virtual.radiograph.clinical import Projection, clinical_look, project_chest
from osteo_monai.virtual.radiograph.detector import Paths, develop, expose
from osteo_monai.virtual.radiograph.project import VirtualRadiograph, project, project_ct, project_paths
from osteo_monai.virtual.radiograph.protocol import Processing, RadiographProtocol, draw_protocol, usual_protocol
from osteo_monai.virtual.radiograph.rays import PerspectiveCanvas, RayGeometry, ray_geometry

__all__ = [
    "Paths",
    "PerspectiveCanvas",
    "Processing",
    "Projection",
    "RadiographProtocol",
    "RayGeometry",
    "VirtualRadiograph",
    "clinical_look",
    "develop",
    "draw_protocol",
    "expose",
    "project",
    "project_chest",
    "project_ct",
    "project_paths",
    "ray_geometry",
    "usual_protocol",
]
