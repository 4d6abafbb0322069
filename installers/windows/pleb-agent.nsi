; The set-up for Windows: for one user, without administrator's rights, removed without a trace.
;
;     makensis -WX -DPAYLOAD=dist\agent\pleb-agent -DVERSION=0.1.0 -DOUT=setup.exe pleb-agent.nsi
;
; The folder is that of an agent that updates itself (pleb_agent/updates/handover.py): `current` is a
; junction to `versions\VERSION`, and whatever starts the agent goes through it.

Unicode true
ManifestDPIAware true
RequestExecutionLevel user
SetCompressor /SOLID lzma

!ifndef PAYLOAD | VERSION | OUT
  !error "Give -DPAYLOAD=folder -DVERSION=0.1.0 -DOUT=file"
!endif

!include "MUI2.nsh"
!include "LogicLib.nsh"

!define PRODUCT "Pleb-Cluster"
!define APP "$LOCALAPPDATA\pleb-cluster\app"
!define PROGRAM "${APP}\current\pleb-agent.exe"
!define UNINSTALL_KEY "Software\Microsoft\Windows\CurrentVersion\Uninstall\pleb-cluster"
!define RUN_KEY "Software\Microsoft\Windows\CurrentVersion\Run"
!define RUN_VALUE "Pleb-Cluster"
!define CLASSES_KEY "Software\Classes"

Name "${PRODUCT}"
OutFile "${OUT}"
InstallDir "${APP}"
BrandingText "${PRODUCT} ${VERSION}"
VIProductVersion "${VERSION}.0"
VIAddVersionKey ProductName "${PRODUCT}"
VIAddVersionKey FileDescription "Gives this PC's idle time to training shared models"
VIAddVersionKey FileVersion "${VERSION}"
VIAddVersionKey ProductVersion "${VERSION}"
VIAddVersionKey LegalCopyright "MIT License"

!define MUI_ICON "${ICONS}\pleb-agent.ico"
!define MUI_UNICON "${ICONS}\pleb-agent.ico"
!define MUI_FINISHPAGE_RUN "${PROGRAM}"
!define MUI_FINISHPAGE_RUN_PARAMETERS "start"
!define MUI_FINISHPAGE_RUN_TEXT "Start the agent and open its page"
!insertmacro MUI_PAGE_WELCOME
!insertmacro MUI_PAGE_COMPONENTS
!insertmacro MUI_PAGE_INSTFILES
!insertmacro MUI_PAGE_FINISH
!insertmacro MUI_UNPAGE_CONFIRM
!insertmacro MUI_UNPAGE_COMPONENTS
!insertmacro MUI_UNPAGE_INSTFILES
!insertmacro MUI_LANGUAGE "English"
!insertmacro MUI_LANGUAGE "German"

; Ends a running agent, so that its files can be replaced or removed.
!macro STOP_AGENT
  ${If} ${FileExists} "${PROGRAM}"
    nsExec::Exec '"${PROGRAM}" stop'
    Pop $0
  ${EndIf}
!macroend

; Lets links of a scheme open the agent's page.
!macro TAKE_LINKS SCHEME
  WriteRegStr HKCU "${CLASSES_KEY}\${SCHEME}" "" "URL:${PRODUCT}"
  WriteRegStr HKCU "${CLASSES_KEY}\${SCHEME}" "URL Protocol" ""
  WriteRegStr HKCU "${CLASSES_KEY}\${SCHEME}\DefaultIcon" "" "${PROGRAM},0"
  WriteRegStr HKCU "${CLASSES_KEY}\${SCHEME}\shell\open\command" "" '"${PROGRAM}" open "%1"'
!macroend

!macro LEAVE_LINKS SCHEME
  DeleteRegKey HKCU "${CLASSES_KEY}\${SCHEME}"
!macroend

Section "-agent"
  !insertmacro STOP_AGENT
  RMDir /r "${APP}\versions\${VERSION}"
  SetOutPath "${APP}\versions\${VERSION}"
  File /r "${PAYLOAD}\*"
  SetOutPath "${APP}"
  RMDir "${APP}\current"
  nsExec::Exec 'cmd /c mklink /J "${APP}\current" "${APP}\versions\${VERSION}"'
  Pop $0
  ${If} $0 <> 0
    MessageBox MB_ICONSTOP "The folder ${APP}\current cannot be made: is this disk formatted with NTFS?" /SD IDOK
    Abort
  ${EndIf}
  WriteUninstaller "${APP}\uninstall.exe"

  CreateShortcut "$SMPROGRAMS\${PRODUCT}.lnk" "${PROGRAM}" "open" "${PROGRAM}" 0

  !insertmacro TAKE_LINKS "pleb"
  !insertmacro TAKE_LINKS "pleb+http"

  WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayName" "${PRODUCT}"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayVersion" "${VERSION}"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayIcon" "${PROGRAM}"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "UninstallString" '"${APP}\uninstall.exe"'
  WriteRegStr HKCU "${UNINSTALL_KEY}" "QuietUninstallString" '"${APP}\uninstall.exe" /S'
  WriteRegDWORD HKCU "${UNINSTALL_KEY}" "NoModify" 1
  WriteRegDWORD HKCU "${UNINSTALL_KEY}" "NoRepair" 1
SectionEnd

; Can be unticked in the set-up; the agent's page can switch it off (`pleb-agent autostart off`).
Section "Start with Windows"
  WriteRegStr HKCU "${RUN_KEY}" "${RUN_VALUE}" '"${PROGRAM}" start'
SectionEnd

Section "un.The agent"
  SectionIn RO
  !insertmacro STOP_AGENT
  DeleteRegValue HKCU "${RUN_KEY}" "${RUN_VALUE}"
  !insertmacro LEAVE_LINKS "pleb"
  !insertmacro LEAVE_LINKS "pleb+http"
  DeleteRegKey HKCU "${UNINSTALL_KEY}"
  Delete "$SMPROGRAMS\${PRODUCT}.lnk"
  ; The junction first, and not recursively: it leads into a version.
  RMDir "${APP}\current"
  RMDir /r "${APP}"
  RMDir "$LOCALAPPDATA\pleb-cluster"
SectionEnd

Section /o "un.Keys, credit and downloaded data"
  RMDir /r "$LOCALAPPDATA\pleb-cluster\agent"
  RMDir "$LOCALAPPDATA\pleb-cluster"
SectionEnd
