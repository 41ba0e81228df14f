//! What an instance needs when it is started: its bundle, its image and its secrets.

use async_trait::async_trait;
use tidegate_core::{FunctionKey, FunctionSpec, Network};
use tidegate_egress::{Allowed, Lists};
use tidegate_engine::{Materials, Resources, Revision, UnknownRevision};
use tidegate_instance::{SecretFile, StartError};

use crate::platform::WeakPlatform;

/// The engine's view of the platform. Weak, since the platform owns the engine.
pub(crate) struct PlatformResources(pub(crate) WeakPlatform);

#[async_trait]
impl Resources for PlatformResources {
    async fn materialize(
        &self,
        function: &FunctionKey,
        spec: &FunctionSpec,
    ) -> Result<Materials, StartError> {
        let platform = self.0.upgrade().ok_or(StartError::ShuttingDown)?;
        let code = |message: String| StartError::Code { message };
        let unpacked = async |digest: &str| {
            let digest = digest.parse().map_err(|e| code(format!("{e}")))?;
            let folder = platform.bundles().built(&digest).await;
            folder.map_err(|e| code(e.to_string()))
        };
        let mut materials = Materials {
            bundle: if spec.code.digest.is_empty() {
                platform.bundles().empty()
            } else {
                unpacked(&spec.code.digest).await?
            },
            ..Materials::default()
        };
        if let Some(root) = &spec.root {
            let layers = platform.image_layers(&root.image);
            materials.root = layers.map_err(|e| code(e.to_string()))?;
        }
        if let Some(layer) = &spec.code.layer {
            materials.layer = Some(unpacked(layer).await?);
        }
        if let (Network::Outbound, Some(outlets)) = (spec.network, platform.outlets()) {
            let mut lists = Vec::new();
            if let Some(rules) = &spec.egress {
                let of = Lists::Function;
                let rules = rules.as_slice().into();
                lists.push(Allowed { of, rules });
            }
            // One that cannot be read opens nothing.
            let of_namespace = platform.namespace_egress(&function.namespace).await;
            if let Some(rules) = of_namespace.map_err(|e| code(e.to_string()))? {
                let of = Lists::Namespace;
                lists.push(Allowed { of, rules });
            }
            materials.outbound = Some(outlets.of(function.clone(), lists));
        }
        for used in &spec.secrets {
            let value = platform
                .secret_value(&function.namespace, &used.name)
                .await
                .map_err(|e| code(e.to_string()))?;
            match &used.env {
                Some(variable) => {
                    let text = String::from_utf8(value).map_err(|_| {
                        code(format!(
                            "secret {:?} is not text, so it cannot be in variable {variable:?}; name it without a variable to get a file",
                            used.name
                        ))
                    })?;
                    materials.env.push((variable.clone(), text));
                }
                None => materials.files.push(SecretFile {
                    name: used.name.clone(),
                    value: value.into(),
                }),
            }
        }
        Ok(materials)
    }

    async fn revision(
        &self,
        function: &FunctionKey,
        word: &str,
    ) -> Result<Revision, UnknownRevision> {
        let platform = self.0.upgrade().ok_or_else(UnknownRevision::default)?;
        platform.revision_by_word(function, word).await
    }
}
